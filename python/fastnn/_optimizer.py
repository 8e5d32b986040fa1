"""Optimizer: groups of parameters, their slots and rates, and one native call per step and group."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

from fastnn._arrays import FloatArray, aligned_zeros, as_float32, check_int, check_number
from fastnn._parameter import Parameter

Rate = float | Callable[[int], float]
Group = dict[str, Any]
Slots = Mapping[str, FloatArray]


class Lists(NamedTuple):
    """The arrays of one native call."""

    data: list[FloatArray]
    grad: list[FloatArray]
    slots: list[list[FloatArray]]
    decays: bool


class Optimizer(ABC):
    """Base of all optimizers.

    `params`: parameters, or groups as in PyTorch: dicts with `params` and any options that differ in the
    group. `param_groups` holds the groups as dicts with all options; `lr` in them may be a number or a
    schedule, and a changed value counts from the next step. `step_count` is the number of updates done.
    Parameters whose `trainable` is False are left as they are.
    """

    slot_names: ClassVar[tuple[str, ...]] = ()  # arrays kept for each parameter, in the kernel's order

    def __init__(self, params: Iterable[Parameter] | Iterable[Group], **options: Any) -> None:
        name = type(self).__name__
        if isinstance(params, (Parameter, Mapping)):
            raise TypeError(f"{name}: params must be a list of parameters or groups; pass [...] around it")
        self.step_count = 0
        self.param_groups: list[Group] = []
        members = list(params)
        for group in members if members and isinstance(members[0], Mapping) else [{"params": members}]:
            self.param_groups.append(self._group(group, options))
        every = self._parameters()
        if not every:
            raise ValueError(f"{name}: params is empty; pass model.parameters()")
        if len({id(p) for p in every}) < len(every):
            raise ValueError(f"{name}: a parameter occurs twice in params; each must be updated once a step")
        self._slots = {slot: [aligned_zeros(p.data.shape) for p in every] for slot in self.slot_names}
        self._cache: dict[int, tuple[Any, list[Lists]]] = {}

    def _group(self, given: Any, options: Group) -> Group:
        name = type(self).__name__
        if not isinstance(given, Mapping) or "params" not in given:
            raise TypeError(f"{name}: a group must be a dict with 'params', got {given!r}")
        unknown = given.keys() - options.keys() - {"params"}
        if unknown:
            raise ValueError(
                f"{name}: unknown options {sorted(unknown)} in a group; known are {sorted(options)}"
            )
        group = {**options, **given, "params": list(given["params"])}
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
        _rate(group["lr"], None, f"{type(self).__name__}: lr")

    @abstractmethod
    def _update(self, lists: Lists, group: Group, lr: float) -> None:
        """One native call: update these arrays with the options of the group."""

    def step(self) -> None:
        """Update every trainable parameter from its gradient, at the rate of `lr`, and count the step."""
        where = f"{type(self).__name__}: lr after {self.step_count} updates"
        rates = [_rate(group["lr"], self.step_count, where) for group in self.param_groups]
        for index, (group, rate) in enumerate(zip(self.param_groups, rates, strict=True)):
            for lists in self._lists(index, group):
                self._update(lists, group, rate)
        self.step_count += 1

    def _lists(self, index: int, group: Group) -> list[Lists]:
        """The native calls of a group: one, or two where weight decay must leave some parameters out."""
        splits = bool(group.get("weight_decay")) and group["decay"] == "weights"
        key = splits, [(p.trainable, p.decay) for p in group["params"]]
        cached = self._cache.get(index)
        if cached is None or cached[0] != key:
            # Parameters never move, so their arrays are collected once for as long as the flags stay.
            start = sum(len(earlier["params"]) for earlier in self.param_groups[:index])
            places = [(start + i, p) for i, p in enumerate(group["params"]) if p.trainable]
            parts = (
                [[at for at in places if at[1].decay == decay] for decay in (True, False)]
                if splits
                else [places]
            )
            calls = [
                Lists(
                    [p.data for _, p in part],
                    [p.grad for _, p in part],
                    [[slot[i] for i, _ in part] for slot in self._slots.values()],
                    not splits or part[0][1].decay,
                )
                for part in parts
                if part
            ]
            self._cache[index] = cached = key, calls
        return cached[1]

    @property
    def lr(self) -> float:
        """The rate of the next update (of the first group); assigning sets every group."""
        return _rate(self.param_groups[0]["lr"], self.step_count, f"{type(self).__name__}: lr")

    @lr.setter
    def lr(self, value: Rate) -> None:
        _rate(value, None, f"{type(self).__name__}: lr")
        for group in self.param_groups:
            group["lr"] = value

    def _parameters(self) -> list[Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        """`step_count`, `param_groups` (options; parameters as numbers), `state` (the slots): copies.

        As in PyTorch. A schedule is code and is not saved: load into an optimizer built the same way. In its
        place stands None, or what its own `state_dict()` gives (`ReduceOnPlateau`, alone or wrapped).
        """
        numbers = iter(range(len(self._parameters())))
        groups = [
            {
                **group,
                "lr": _saved(group["lr"]),
                "params": [next(numbers) for _ in group["params"]],
            }
            for group in self.param_groups
        ]
        state = {
            i: {slot: arrays[i].copy() for slot, arrays in self._slots.items()}
            for i in range(len(self._parameters()))
        }
        return {"step_count": self.step_count, "param_groups": groups, "state": state}

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
        problems = self._group_problems(own["param_groups"], state["param_groups"])
        values, slot_problems = self._slot_values(own["state"], state["state"])
        if problems + slot_problems:
            raise ValueError(f"{where}: " + "; ".join(problems + slot_problems))
        self.step_count = count
        for group, saved in zip(self.param_groups, state["param_groups"], strict=True):
            for key in group.keys() - {"params"}:
                if isinstance(saved[key], Mapping):  # the state of a schedule
                    group[key].load_state_dict(saved[key])
                elif saved[key] is not None:
                    group[key] = saved[key]
        for slot, i, value in values:
            self._slots[slot][i][...] = value

    def _group_problems(self, own: list[Group], given: list[Group]) -> list[str]:
        if len(own) != len(given):
            return [f"{len(given)} parameter groups, must be {len(own)}"]
        problems = []
        for i, (mine, theirs) in enumerate(zip(own, given, strict=True)):
            if mine.keys() != theirs.keys():
                problems.append(f"group {i} has options {sorted(theirs)}, must be {sorted(mine)}")
                continue
            if mine["params"] != list(theirs["params"]):
                problems.append(f"group {i} has parameters {theirs['params']}, must be {mine['params']}")
            kinds = [_kind(group["lr"]) for group in (theirs, mine)]
            if kinds[0] != kinds[1]:
                problems.append(f"lr of group {i} is {kinds[0]}, must be {kinds[1]}")
                continue
            try:
                if isinstance(theirs["lr"], Mapping):
                    copy.deepcopy(self.param_groups[i]["lr"]).load_state_dict(theirs["lr"])
                self._check({**theirs, "lr": theirs["lr"] if kinds[0] == "a number" else 0.0})
            except (TypeError, ValueError) as error:
                problems.append(f"group {i}: {error}")
        return problems

    def _slot_values(
        self, own: dict[int, Slots], given: Mapping[int, Slots]
    ) -> tuple[list[tuple[str, int, FloatArray]], list[str]]:
        values, problems = [], []
        for i, parameter in enumerate(self._parameters()):
            saved = given.get(i, {})
            if saved.keys() != own[i].keys():
                problems.append(f"{parameter.name!r} has slots {sorted(saved)}, must be {sorted(own[i])}")
                continue
            for slot, array in saved.items():
                what = f"slot {slot!r} of {parameter.name!r}"
                try:
                    value = as_float32(array, what)
                except TypeError as error:
                    problems.append(str(error))
                    continue
                if value.shape != parameter.data.shape:
                    problems.append(f"{what} has shape {value.shape}, must be {parameter.data.shape}")
                values.append((slot, i, value))
        extra = [i for i in given if i not in own]
        return values, problems + ([f"unexpected parameters {extra}"] if extra else [])

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_cache": {}}  # a copy has arrays of its own

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in self.param_groups[0].items() if k != "params")
        return (
            f"{type(self).__name__}({options}; {len(self._parameters())} parameters, {self.step_count} steps)"
        )


def _saved(lr: Rate) -> Any:
    """What a state keeps of a rate: a number itself; of a schedule its state, None when it has none."""
    if not callable(lr):
        return lr
    state: dict[str, Any] = getattr(lr, "state_dict", dict)()
    return state or None


def _kind(saved: Any) -> str:
    if saved is None:
        return "a schedule"
    return "a schedule with a state" if isinstance(saved, Mapping) else "a number"


def _rate(lr: Rate, step: int | None, what: str) -> float:
    """The rate after `step` updates, checked; with None only the kind of a schedule is known yet."""
    if callable(lr):
        return 0.0 if step is None else check_number(lr(step), what, 0)
    return check_number(lr, what, 0)
