"""The options that every optimizer takes, and what `like=` sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict

import numpy as np

from fastnn import _device
from fastnn._arrays import FloatArray, check_int, check_number
from fastnn._clip import Clip
from fastnn._parameter import Parameter

Rate = float | Callable[[int], float]
Group = dict[str, Any]


class Common(TypedDict, total=False):
    """Keyword options of every optimizer."""

    weight_decay: float
    l1: float
    decay: Literal["weights", "all"]
    decay_to: Literal["zero", "init"]
    clip: float | Clip | None
    nonfinite: Literal["raise", "skip", "ignore"]
    grad_noise: tuple[float, float] | tuple[float, float, int] | None
    like: Literal["source", "pytorch", "paddle", "mindspore", "keras", "optax", "sklearn"] | None


DEFAULTS: dict[str, Any] = {
    "weight_decay": 0.0,
    "l1": 0.0,
    "decay": "weights",
    "decay_to": "zero",
    "clip": None,
    "nonfinite": "raise",
    "grad_noise": None,
    "like": None,
}
EPS_MODES = ("outside", "inside", "hat")  # in the order of the kernels
# These hold for the optimizer, not for a group: a norm is taken over all groups.
OF_THE_OPTIMIZER = ("clip", "nonfinite", "like")

# Conventions of others, by the name of the class: what `like` sets where the caller did not. Read in the
# sources or measured (PyTorch 2.13, PaddlePaddle 3.3, MindSpore 2.10, Keras 3.15, Optax 0.2.8, scikit-learn
# 1.9): the place and size of epsilon, the starts of the sums, the style of momentum, the rates, and which
# parameters decay. A missing class: they have none, or one that is not expressible here.
_ALL = {"decay": "all"}
LIKE: dict[str, dict[str, dict[str, Any]]] = {
    "source": {
        "SGD": {},
        "Momentum": {"style": "velocity"},
        "RMSProp": {"rho": 0.9, "eps": 1e-7, "eps_mode": "outside", "initial_accumulator": 0.0},
        "AdaGrad": {"eps": 1e-7, "eps_mode": "outside", "initial_accumulator": 0.0},
        "Adam": {"betas": (0.9, 0.999), "eps": 1e-7, "eps_mode": "outside"},
        "Rprop": {},
    },
    "pytorch": {
        "SGD": _ALL,
        "Momentum": {"style": "buffer", **_ALL},
        "RMSProp": {"lr": 1e-2, "rho": 0.99, "eps": 1e-8, "eps_mode": "outside", **_ALL},
        "AdaGrad": {"lr": 1e-2, "eps": 1e-10, "eps_mode": "outside", "initial_accumulator": 0.0, **_ALL},
        "Adam": {"lr": 1e-3, "eps": 1e-8, "eps_mode": "outside", **_ALL},
        "AdamW": {"lr": 1e-3, "eps": 1e-8, "eps_mode": "outside", "weight_decay": 1e-2, **_ALL},
        "Rprop": {"lr": 1e-2, "step_sizes": (1e-6, 50.0), **_ALL},
    },
    "paddle": {
        "SGD": _ALL,
        "Momentum": {"style": "buffer", **_ALL},
        "RMSProp": {"rho": 0.95, "eps": 1e-6, "eps_mode": "inside", "initial_accumulator": 0.0, **_ALL},
        "AdaGrad": {"eps": 1e-6, "eps_mode": "outside", "initial_accumulator": 0.0, **_ALL},
        "Adam": {"lr": 1e-3, "eps": 1e-8, "eps_mode": "outside", **_ALL},
        "AdamW": {"lr": 1e-3, "eps": 1e-8, "eps_mode": "outside", "weight_decay": 1e-2, **_ALL},
        "Rprop": {"lr": 1e-3, "step_sizes": (1e-5, 50.0), **_ALL},
    },
    "mindspore": {
        "SGD": {},
        "Momentum": {"style": "buffer"},
        "RMSProp": {"lr": 0.1, "rho": 0.9, "eps": 1e-10, "eps_mode": "inside", "initial_accumulator": 1.0},
        "AdaGrad": {"lr": 1e-3, "eps": 0.0, "initial_accumulator": 0.1},
        "Adam": {"lr": 1e-3, "eps": 1e-8, "eps_mode": "hat"},
        "Rprop": {"lr": 0.1, "step_sizes": (1e-6, 50.0)},
    },
    "keras": {
        "SGD": _ALL,
        "Momentum": {"style": "velocity", **_ALL},
        "RMSProp": {"lr": 1e-3, "rho": 0.9, "eps": 1e-7, "eps_mode": "inside", **_ALL},
        "AdaGrad": {"lr": 1e-3, "eps": 1e-7, "eps_mode": "inside", "initial_accumulator": 0.1, **_ALL},
        "Adam": {"lr": 1e-3, "eps": 1e-7, "eps_mode": "hat", **_ALL},
        "AdamW": {"lr": 1e-3, "eps": 1e-7, "eps_mode": "hat", "weight_decay": 4e-3, **_ALL},
    },
    "optax": {
        "SGD": _ALL,
        "Momentum": {"style": "buffer", **_ALL},
        "RMSProp": {"rho": 0.9, "eps": 1e-8, "eps_mode": "inside", "initial_accumulator": 0.0, **_ALL},
        "AdaGrad": {"eps": 1e-7, "eps_mode": "inside", "initial_accumulator": 0.1, **_ALL},
        "Adam": {"eps": 1e-8, "eps_mode": "outside", **_ALL},
        "AdamW": {"eps": 1e-8, "eps_mode": "outside", "weight_decay": 1e-4, **_ALL},
        "Rprop": {"step_sizes": (1e-6, 50.0), **_ALL},
    },
    "sklearn": {
        "SGD": {"decay": "weights"},
        "Momentum": {"style": "velocity", "nesterov": True, "decay": "weights"},
        "Adam": {"lr": 1e-3, "eps": 1e-8, "eps_mode": "hat", "decay": "weights"},
    },
}


def like_options(name: str, like: str | None) -> Mapping[str, Any]:
    """What `like` sets for the optimizer class of this name."""
    if like is None:
        return {}
    if not isinstance(like, str) or like not in LIKE:
        raise ValueError(f"{name}: like must be None or one of {', '.join(LIKE)}, got {like!r}")
    if name not in LIKE[like]:
        having = ", ".join(key for key in LIKE if name in LIKE[key])
        raise ValueError(f'{name}: like="{like}" names no {name}; it is known of {having or "none"}')
    return LIKE[like][name]


def as_list(params: Any, must: str) -> list[Any]:
    """What was given as parameters or groups as a list; `must` says in errors what it must be."""
    alone = isinstance(params, (Parameter, Mapping))
    if alone or not isinstance(params, Iterable):
        cure = "[...] around it" if alone else "model.parameters()"
        raise TypeError(f"{must}, got {type(params).__name__}; pass {cure}")
    return list(params)


def check_members(optimizer: Any) -> None:
    """Raise where the groups are no longer those of the parameters that there are slots for."""
    groups, name = optimizer.param_groups, type(optimizer).__name__
    now = [parameter for group in groups for parameter in group.get("params", ())]
    if now != optimizer._members or len(set(map(frozenset, groups))) > 1:
        raise ValueError(
            f"{name}: param_groups cannot get or lose groups or parameters; make a new {name} of all of them"
        )


def check_choice(value: Any, what: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        names = [f'"{choice}"' for choice in choices]
        raise ValueError(f"{what} must be {', '.join(names[:-1])} or {names[-1]}, got {value!r}")


def check_common(group: Group, name: str) -> None:
    """Raise for a common option of the wrong kind or value."""
    check_number(group["weight_decay"], f"{name}: weight_decay", 0)
    check_number(group["l1"], f"{name}: l1", 0)
    check_choice(group["decay"], f"{name}: decay", ("weights", "all"))
    check_choice(group["decay_to"], f"{name}: decay_to", ("zero", "init"))
    noise = group["grad_noise"]
    if noise is None:
        return
    if not isinstance(noise, (tuple, list)) or len(noise) not in (2, 3):
        raise TypeError(f"{name}: grad_noise must be None, (eta, gamma) or (eta, gamma, seed), got {noise!r}")
    check_number(noise[0], f"{name}: grad_noise: eta", 0)
    check_number(noise[1], f"{name}: grad_noise: gamma", 0)
    if len(noise) == 3:
        check_int(noise[2], f"{name}: grad_noise: seed", 0)


def noise_numbers(group: Group, step: int) -> tuple[float, int]:
    """Standard deviation and seed of the noise that is added after `step` updates."""
    if group["grad_noise"] is None:
        return 0.0, 0
    eta, gamma, *seed = group["grad_noise"]
    return (eta / (1.0 + step) ** gamma) ** 0.5, int(seed[0]) if seed else 0


def is_scheduled(value: Any) -> bool:
    """Whether an option changes from step to step."""
    return any(map(is_scheduled, value)) if isinstance(value, (tuple, list)) else callable(value)


def with_steps(value: Any, steps: int) -> Any:
    """An option whose schedules know how many updates an epoch has."""
    if isinstance(value, (tuple, list)):
        return tuple(with_steps(one, steps) for one in value)
    tell = getattr(value, "with_steps_per_epoch", None)
    return value if tell is None else tell(steps)


def penalty_of(group: Group, parameters: Sequence[Parameter], initial: Sequence[FloatArray] | None) -> float:
    """What decaying parameters of a group add to the loss; `initial`: what they decay towards, or zero."""
    total = 0.0
    for i, parameter in enumerate(parameters):
        gap = _device.on_host(parameter.data).astype(np.float64)
        if initial is not None:
            gap -= _device.on_host(initial[i])
        total += 0.5 * group["weight_decay"] * float(np.square(gap).sum())
        total += group["l1"] * float(np.abs(gap).sum())
    return total


def rate_at(rate: Rate, step: int | None, what: str, high: float = float("inf")) -> float:
    """A rate or momentum after `step` updates, checked; with None only the kind of a schedule is known."""
    if isinstance(rate, type):
        name = rate.__name__
        raise TypeError(f"{what} must be a number or a schedule, got the class {name}; pass {name}(...)")
    if callable(rate):
        return 0.0 if step is None else check_number(rate(step), what, 0, high)
    return check_number(rate, what, 0, high)
