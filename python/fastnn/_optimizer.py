"""Optimizer: groups of parameters, their slots and rates, and one native call per step."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

from fastnn import _device
from fastnn._arrays import FloatArray, aligned_zeros, check_int
from fastnn._clip import Clip, as_clip
from fastnn._non_finite import non_finite_gradient
from fastnn._optimizer_state import group_problems, loaded, saved_option, slot_values
from fastnn._options import (
    DEFAULTS,
    OF_THE_OPTIMIZER,
    Group,
    Rate,
    as_list,
    check_choice,
    check_common,
    check_members,
    is_scheduled,
    like_options,
    noise_numbers,
    penalty_of,
    rate_at,
    with_steps,
)
from fastnn._parameter import Parameter
from fastnn._update import Update

_INITIAL = "initial"  # the slot of the values that decay_to="init" decays to
Numbers = tuple[float, ...]


class Part(NamedTuple):
    """The arrays of a group, or of those of them that decay, as the native call takes them."""

    parameters: list[Parameter]
    arrays: tuple[list[FloatArray] | None, ...]  # data, gradients, three slots, initial values
    decays: bool
    places: list[int]


class Optimizer(ABC):
    """Base of all optimizers.

    `params`: parameters, or groups as in PyTorch: dicts with `params` and any options that differ in the
    group. `param_groups` holds the groups as dicts with all options; `lr` in them may be a number or a
    schedule, and a changed value counts from the next step. `step_count` is the number of updates done.
    Parameters whose `trainable` is False are left as they are. A step is one native call for all groups.

    Options of every optimizer, in the order in which they act on the gradient g of a parameter p:

    nonfinite : what a NaN or an infinity in any gradient does, found before anything is updated: "raise" a
        `NonFiniteGradientError` that names parameter and index, "skip" the step (counted in `skipped_steps`,
        not in `step_count`), or "ignore": not looked for, NaN spreads
    clip : a float (the global norm), `ClipByValue`, `ClipByNorm`, `ClipByGlobalNorm` or `AdaptiveClip`
    grad_noise : (eta, gamma) or (eta, gamma, seed): adds normal numbers of variance
        eta / (1 + step_count)**gamma (Neelakantan et al. 2015), a pure function of (seed, step_count, place
        of the parameter, element), so a resumed run draws the same; seed is 0 unless given
    weight_decay, l1 : add weight_decay * (p - p0) + l1 * sign(p - p0) to g, the gradient of
        `penalty()` = weight_decay / 2 * sum((p - p0)**2) + l1 * sum(|p - p0|); `AdamW` moves p instead.
        PyTorch and PaddlePaddle have the same weight_decay (Keras's L2(x) is 2 x here; its own weight_decay
        is decoupled in every optimizer)
    decay : "weights" leaves biases, gamma and beta alone (those whose `Parameter.decay` is False), "all"
        decays every parameter, as PyTorch does
    decay_to : "zero" (p0 = 0) or "init": p0 is the value at construction, kept as a slot
    like : the conventions of "source" (the papers' pages: velocity momentum, 1e-7 outside the root),
        "pytorch", "paddle", "mindspore", "keras", "optax" or "sklearn" for what was not given

    `weight_decay`, `l1`, `decay`, `decay_to` and `grad_noise` may differ in a group.
    """

    _rule: ClassVar[str]  # the kernel's word
    _common: ClassVar[Mapping[str, Any]] = DEFAULTS  # common options and their defaults
    _given: frozenset[str]  # the arguments that the caller named or placed

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Shows the common options in the signature of a class that takes them as **common."""
        super().__init_subclass__(**arguments)
        own = inspect.signature(cls.__init__)
        kinds = inspect.Parameter
        shown = [p for p in list(own.parameters.values())[1:] if p.kind is not kinds.VAR_KEYWORD]
        shown += [kinds(name, kinds.KEYWORD_ONLY, default=value) for name, value in cls._common.items()]
        cls.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]

    def __new__(cls, *args: Any, **kwargs: Any) -> Optimizer:
        optimizer = super().__new__(cls)
        names = list(inspect.signature(cls).parameters)[: len(args)]
        optimizer._given = frozenset(names).union(kwargs)
        return optimizer

    def __init__(
        self, params: Iterable[Parameter] | Iterable[Group], common: Mapping[str, Any], **options: Any
    ) -> None:
        name = type(self).__name__
        unknown = common.keys() - self._common.keys()
        if unknown:
            raise TypeError(f"{name}: unknown arguments {sorted(unknown)}")
        options = {**options, **self._common, **common}
        for key, value in like_options(name, options["like"]).items():
            if key not in self._given:
                options[key] = value
        self.clip = options["clip"]
        self.nonfinite = options["nonfinite"]
        options = {key: value for key, value in options.items() if key not in OF_THE_OPTIMIZER}
        self.step_count = 0
        self.skipped_steps = 0
        self.param_groups: list[Group] = []
        members = as_list(params, f"{name}: params must be a list of parameters or groups")
        for group in members if members and isinstance(members[0], Mapping) else [{"params": members}]:
            self.param_groups.append(self._group(group, options))
        every = self._members = self._parameters()
        if not every:
            raise ValueError(f"{name}: params is empty; pass model.parameters()")
        if len({id(p) for p in every}) < len(every):
            raise ValueError(f"{name}: a parameter occurs twice in params; each must be updated once a step")
        self._state: list[dict[str, FloatArray]] = [{} for _ in every]
        self._cache: dict[int, tuple[Any, list[Part]]] = {}
        self._update: Update | None = None
        self._checked: dict[int, Group] = {}  # the options as they were when they were last checked
        for index in range(len(self.param_groups)):
            self._make_slots(index)

    def _group(self, given: Any, options: Group) -> Group:
        name = type(self).__name__
        if not isinstance(given, Mapping) or "params" not in given:
            raise TypeError(f"{name}: a group must be a dict with 'params', got {given!r}")
        unknown = given.keys() - options.keys() - {"params"}
        if unknown:
            raise ValueError(
                f"{name}: unknown options {sorted(unknown)} in a group; known are {sorted(options)}"
            )
        given_list = as_list(given["params"], f"{name}: params of a group must be a list of parameters")
        group = {**options, **given, "params": given_list}
        for i, parameter in enumerate(group["params"]):
            if not isinstance(parameter, Parameter):
                raise TypeError(
                    f"{name}: params[{i}] must be an nn.Parameter, got {type(parameter).__name__}; pass "
                    "model.parameters(), or update plain arrays with fastnn.ops"
                )
        self._check(group)
        return group

    def _check(self, group: Group) -> None:
        """Raise for an option of the wrong kind or value; a subclass adds its own options."""
        name = type(self).__name__
        rate_at(group["lr"], None, f"{name}: lr")
        check_common(group, name)

    # ---- what a subclass says

    def _slots(self, group: Group) -> tuple[str | None, ...]:
        """The names of the arrays kept for each parameter, in the kernel's order; None: that one is not."""
        return ()

    def _slot_start(self, slot: str, group: Group) -> float:
        """What a slot is filled with at first."""
        return 0.0

    @abstractmethod
    def _numbers(self, group: Group, lr: float) -> tuple[float, ...]:
        """The numbers of the rule, in the order of the kernel (csrc/bind/bind_optimizer.cpp)."""

    # ---- the step

    _check_members = check_members

    @property
    def clip(self) -> float | Clip | None:
        """The clip; assignable."""
        return self._clip_given

    @clip.setter
    def clip(self, value: float | Clip | None) -> None:
        self._clip = as_clip(value, type(self).__name__)
        self._clip_given = value

    @property
    def nonfinite(self) -> str:
        """What a gradient that is not finite does: "raise", "skip" or "ignore"; assignable."""
        return self._nonfinite

    @nonfinite.setter
    def nonfinite(self, value: str) -> None:
        check_choice(value, f"{type(self).__name__}: nonfinite", ("raise", "skip", "ignore"))
        _device.settle(self)
        self._nonfinite = value

    def step(self) -> None:
        """Update every trainable parameter from its gradient, at the rate of `lr`, and count the step.

        Raises NonFiniteGradientError, with nothing changed, for one that is not finite (`nonfinite`). A
        device waits for that verdict, but for "ignore". A `Trainer` refuses an optimizer that overrides it.
        """
        refused = self._native().run(self)
        if refused is None:
            self.step_count += 1
        else:
            self._refuse(refused)

    def _native(self) -> Update:
        """The native update of what the groups are now."""
        if self._update is None or not self._update.fits(self):
            self._update = Update(self)
        return self._update

    def _parts_now(self) -> list[tuple[Group, list[Part]]]:
        """The groups, checked, with their parts."""
        self._check_members()
        for index, group in enumerate(self.param_groups):
            if group != self._checked.get(index):
                self._check(group)
                self._checked[index] = dict(group)
        return [(group, self._parts(index, group)) for index, group in enumerate(self.param_groups)]

    def _numbers_now(self) -> Iterator[tuple[Numbers, Numbers]]:
        """Of each part for the next step: the numbers of its rule, and those of all rules."""
        for group, parts in self._parts_now():
            numbers = self._numbers(group, self._now(group["lr"], "lr"))
            noise, _ = noise_numbers(group, self.step_count)
            for part in parts:
                decay = (group["weight_decay"], group["l1"]) if part.decays else (0.0, 0.0)
                yield numbers, (*decay, noise)

    def _is_constant(self) -> bool:
        """Whether `_numbers_now` says the same for all further steps, as long as nobody assigns."""
        return not any(
            group["grad_noise"] is not None
            or (self.step_count == 0 and group.get("dampening"))
            or any(map(is_scheduled, group.values()))
            for group in self.param_groups
        )

    def _now(self, rate: Rate, what: str, high: float = math.inf) -> float:
        """The rate (or momentum, below `high`) of this step; numbers have been checked with their group."""
        if not callable(rate):
            return rate
        what = f"{type(self).__name__}: {what} after {self.step_count} updates"
        return rate_at(rate, self.step_count, what, high)

    def _refuse(self, parameter: Parameter) -> None:
        """A step was not done because this gradient is not finite."""
        self.skipped_steps += 1
        if self._nonfinite == "skip":
            return
        raise non_finite_gradient(type(self).__name__, parameter, self.step_count)

    def _parts(self, index: int, group: Group) -> list[Part]:
        """The arrays of a group: one part, or two where weight decay must leave some parameters out."""
        decays = bool(group["weight_decay"] or group["l1"])
        splits = decays and group["decay"] == "weights"
        to_initial = decays and group["decay_to"] == "init"
        slots = self._slots(group)
        flags = [(p.trainable, p.decay) for p in group["params"]]
        key = decays, splits, to_initial, slots, _device.moves, flags
        cached = self._cache.get(index)
        if cached is None or cached[0] != key:
            # Parameters move to a device alone: their arrays are collected for as long as the flags stay.
            _device.check_one_place(type(self).__name__, self._parameters())
            places = [(i, p) for i, p in enumerate(group["params"], self._make_slots(index)) if p.trainable]
            chosen = (
                [([at for at in places if at[1].decay == decay], decay) for decay in (True, False)]
                if splits
                else [(places, decays)]
            )
            three = (*slots, None, None, None)[:3]
            parts = []
            for part, decay in chosen:
                if not part:
                    continue
                names = (*three, _INITIAL if to_initial and decay else None)
                kept = [None if s is None else [self._state[i][s] for i, _ in part] for s in names]
                arrays = [p.data for _, p in part], [p.grad for _, p in part], *kept
                parts.append(Part([p for _, p in part], arrays, decay, [i for i, _ in part]))
            self._cache[index] = cached = key, parts
        return cached[1]

    def _make_slots(self, index: int) -> int:
        """Make the arrays that a group's options ask for and that are not there; returns where it starts."""
        start = sum(len(earlier["params"]) for earlier in self.param_groups[:index])
        group = self.param_groups[index]
        for i, parameter in enumerate(group["params"], start):
            for slot in self._slots(group):
                if slot is not None and slot not in self._state[i]:
                    self._state[i][slot] = aligned_zeros(parameter.data.shape)
                    self._state[i][slot].fill(self._slot_start(slot, group))
            if group["decay_to"] == "init" and _INITIAL not in self._state[i]:
                self._state[i][_INITIAL] = aligned_zeros(parameter.data.shape)
                self._state[i][_INITIAL][...] = _device.on_host(parameter.data)
            self._state[i] = {s: _device.beside(parameter.data, a) for s, a in self._state[i].items()}
        return start

    # ---- regularisation

    @property
    def regularises(self) -> bool:
        """Whether a group has weight decay or l1, so that `penalty` may be above 0."""
        return any(group["weight_decay"] or group["l1"] for group in self.param_groups)

    def penalty(self) -> float:
        """The regularisation term at the present parameters, apart from the loss.

        weight_decay / 2 * sum((p - p0)**2) + l1 * sum(|p - p0|) over the trainable parameters that decay
        (p0: `decay_to`), in float64. The gradient that `weight_decay` and `l1` add is its derivative; `AdamW`
        takes lr times that from the parameters themselves.

        >>> import numpy as np
        >>> from fastnn import nn, optim
        >>> w, b = nn.Parameter(np.array([3.0, -4.0])), nn.Parameter(np.ones(1), decay=False)
        >>> optim.SGD([w, b], lr=0.1, weight_decay=0.5, l1=1.0).penalty()
        13.25
        """
        return sum(
            penalty_of(group, part.parameters, part.arrays[-1])
            for index, group in enumerate(self.param_groups)
            for part in self._parts(index, group)
            if part.decays
        )

    # ---- rates

    @property
    def lr(self) -> float:
        """The rate of the next update (of the first group); assigning sets every group."""
        return rate_at(self.param_groups[0]["lr"], self.step_count, f"{type(self).__name__}: lr")

    @lr.setter
    def lr(self, value: Rate) -> None:
        rate_at(value, None, f"{type(self).__name__}: lr")
        for group in self.param_groups:
            group["lr"] = value

    def set_steps_per_epoch(self, steps: int) -> None:
        """Tell every schedule in the groups that counts epochs how many updates one has (`fit` does)."""
        for group in self.param_groups:
            told = {key: with_steps(value, steps) for key, value in group.items() if key != "params"}
            group.update(told)

    def _parameters(self) -> list[Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """`step_count`, `skipped_steps`, `param_groups` (options; parameters as numbers), `state`: copies.

        As in PyTorch. A schedule and `clip` are code and are not saved: load into an optimizer built the
        same way. In the place of a schedule stands None, or what its own `state_dict()` gives.
        """
        _device.settle(self)
        n = iter(range(len(self._parameters())))
        groups = [
            {**{k: saved_option(v) for k, v in group.items()}, "params": [next(n) for _ in group["params"]]}
            for group in self.param_groups
        ]
        state = {i: _device.copies(slots) for i, slots in enumerate(self._state)}
        counts = {"step_count": self.step_count, "skipped_steps": self.skipped_steps}
        return {**counts, "param_groups": groups, "state": state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a `state_dict`, slots in place.

        All mismatches are listed in one ValueError, and then nothing has been changed.
        """
        where = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state, Mapping):
            raise TypeError(f"{where}: expected a dict from state_dict(), got {type(state).__name__}")
        own = self.state_dict()
        missing = [repr(key) for key in own if key not in state]
        if missing:
            raise ValueError(f"{where}: missing {', '.join(missing)}; expected a dict from state_dict()")
        count = check_int(state["step_count"], f"{where}: step_count", 0)
        skipped = check_int(state["skipped_steps"], f"{where}: skipped_steps", 0)
        problems = group_problems(self.param_groups, own["param_groups"], state["param_groups"], self._check)
        values, slot_problems = slot_values(self._parameters(), own["state"], state["state"])
        if problems + slot_problems:
            raise ValueError(f"{where}: " + "; ".join(problems + slot_problems))
        self.step_count, self.skipped_steps = count, skipped
        for group, saved in zip(self.param_groups, state["param_groups"], strict=True):
            group.update({key: loaded(key, group[key], saved[key]) for key in group if key != "params"})
        for slot, i, value in values:
            _device.put(self._state[i][slot], value)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_cache": {}, "_update": None, "_checked": {}}  # a copy has arrays of its own

    def __repr__(self) -> str:
        shown = {**self.param_groups[0], "clip": self.clip, "nonfinite": self.nonfinite}
        del shown["params"]
        options = ", ".join(f"{k}={v!r}" for k, v in shown.items() if k not in DEFAULTS or v != DEFAULTS[k])
        return (
            f"{type(self).__name__}({options}; {len(self._parameters())} parameters, {self.step_count} steps)"
        )
