"""Optimizer updates in place: one array in cache, the six arrays of a network, a million parameters, and 25
million, which lie in DRAM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cases.case import CHECK_RATE, Array, Arrays, Case, Stream, random_array

CHECK_STEPS = 3
DECAY = 0.01  # AdamW's weight decay
NETWORK = [(784, 256), (256,), (256, 128), (128,), (128, 10), (10,)]
SHAPES: list[tuple[str, list[tuple[int, ...]]]] = [
    ("10 thousand", [(10_000,)]),
    ("235 thousand in 6 arrays", NETWORK),
    ("1 million", [(1_000_000,)]),
    ("25 million", [(25_000_000,)]),
]
# The float64 expectation of 25 million parameters is computed in pieces of this size.
PIECE = 1 << 20


def _arrays(rng: np.random.Generator, shapes: list[tuple[int, ...]]) -> Arrays:
    params = {f"p{i}": random_array(rng, *shape) for i, shape in enumerate(shapes)}
    return {**params, **{f"g{i}": random_array(rng, *shape) for i, shape in enumerate(shapes)}}


def _sgd(p: Array, g: Array) -> Array:
    for _ in range(CHECK_STEPS):
        p = p - CHECK_RATE * g
    return p


def _momentum(p: Array, g: Array) -> Array:
    velocity = np.zeros_like(p)
    for _ in range(CHECK_STEPS):
        velocity = 0.9 * velocity + g
        p = p - CHECK_RATE * velocity
    return p


def _rmsprop(p: Array, g: Array) -> Array:
    s = np.zeros_like(p)
    for _ in range(CHECK_STEPS):
        s = 0.9 * s + 0.1 * g * g
        p = p - CHECK_RATE * g / (np.sqrt(s) + 1e-8)
    return p


def _adagrad(p: Array, g: Array) -> Array:
    s = np.zeros_like(p)
    for _ in range(CHECK_STEPS):
        s = s + g * g
        p = p - CHECK_RATE * g / (np.sqrt(s) + 1e-10)
    return p


def _adam(p: Array, g: Array, decay: float = 0.0) -> Array:
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t in range(1, CHECK_STEPS + 1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        p = p - CHECK_RATE * decay * p
        p = p - CHECK_RATE * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return p


def _adamw(p: Array, g: Array) -> Array:
    return _adam(p, g, DECAY)


@dataclass(frozen=True)
class Rule:
    """`formula`: the parameters after CHECK_STEPS steps; `arrays`: parameter, gradient and state, each read
    once, all but the gradient written once; `flops`: operations a parameter."""

    title: str
    formula: Callable[[Array, Array], Array]
    arrays: int
    flops: int


RULES = {
    "adam": Rule("Adam", _adam, 4, 13),
    "rmsprop": Rule("RMSProp", _rmsprop, 3, 9),
    "momentum": Rule("momentum", _momentum, 3, 4),
    "sgd": Rule("SGD", _sgd, 2, 2),
    "adagrad": Rule("AdaGrad", _adagrad, 3, 7),
    "adamw": Rule("AdamW", _adamw, 4, 15),
}
QUICK_RULES, QUICK_SIZES = ("adam", "rmsprop", "momentum"), 3


def update_case(
    op: str, size: str, shapes: list[tuple[int, ...]], *, group: str = "update", full_only: bool = True
) -> Case:
    """One update of all arrays."""
    rule = RULES[op]
    count = sum(int(np.prod(shape)) for shape in shapes)

    def expected(v: Arrays) -> Arrays:
        found = {f"p{i}": np.empty_like(v[f"p{i}"]) for i in range(len(shapes))}
        for i in range(len(shapes)):
            p, g, out = (a.reshape(-1) for a in (v[f"p{i}"], v[f"g{i}"], found[f"p{i}"]))
            for start in range(0, p.size, PIECE):
                piece = slice(start, start + PIECE)
                out[piece] = rule.formula(p[piece], g[piece])
        return found

    return Case(
        name=f"{rule.title} {size}",
        group=group,
        op=op,
        arrays=lambda rng: _arrays(rng, shapes),
        expected=expected,
        tolerance=1e-6,
        flops=float(rule.flops * count),
        sizes={"arrays": len(shapes)},
        stream=Stream(
            "update",
            read=4.0 * rule.arrays * count,
            written=4.0 * (rule.arrays - 1) * count,
            footprint=4.0 * rule.arrays * count,
        ),
        check_steps=CHECK_STEPS,
        full_only=full_only,
    )


CASES = [
    update_case(op, size, shapes, full_only=op not in QUICK_RULES or index >= QUICK_SIZES)
    for op in RULES
    for index, (size, shapes) in enumerate(SHAPES)
]
CASES += [update_case("adam", "of 10 parameters (the call)", [(10,)], group="call")]
