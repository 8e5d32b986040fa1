"""Optimizer updates in place: one array in cache, the six arrays of a network, and a million parameters."""

from __future__ import annotations

import numpy as np

from cases.case import CHECK_RATE, Array, Arrays, Case, Stream, random_array

CHECK_STEPS = 3
NETWORK = [(784, 256), (256,), (256, 128), (128,), (128, 10), (10,)]
SHAPES: list[tuple[str, list[tuple[int, ...]]]] = [
    ("10 thousand", [(10_000,)]),
    ("235 thousand in 6 arrays", NETWORK),
    ("1 million", [(1_000_000,)]),
]


def _arrays(rng: np.random.Generator, shapes: list[tuple[int, ...]]) -> Arrays:
    params = {f"p{i}": random_array(rng, *shape) for i, shape in enumerate(shapes)}
    return {**params, **{f"g{i}": random_array(rng, *shape) for i, shape in enumerate(shapes)}}


def _adam(p: Array, g: Array) -> Array:
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t in range(1, CHECK_STEPS + 1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        p = p - CHECK_RATE * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return p


def _rmsprop(p: Array, g: Array) -> Array:
    s = np.zeros_like(p)
    for _ in range(CHECK_STEPS):
        s = 0.9 * s + 0.1 * g * g
        p = p - CHECK_RATE * g / (np.sqrt(s) + 1e-8)
    return p


def _momentum(p: Array, g: Array) -> Array:
    velocity = np.zeros_like(p)
    for _ in range(CHECK_STEPS):
        velocity = 0.9 * velocity + g
        p = p - CHECK_RATE * velocity
    return p


# op: (title, formula of CHECK_STEPS steps, floats read and floats written a parameter)
RULES = {
    "adam": ("Adam", _adam, 4, 3),
    "rmsprop": ("RMSProp", _rmsprop, 3, 2),
    "momentum": ("momentum", _momentum, 3, 2),
}


def update_case(op: str, size: str, shapes: list[tuple[int, ...]]) -> Case:
    """One update of all arrays."""
    title, formula, read, written = RULES[op]
    count = sum(int(np.prod(shape)) for shape in shapes)

    def expected(v: Arrays) -> Arrays:
        return {f"p{i}": formula(v[f"p{i}"], v[f"g{i}"]) for i in range(len(shapes))}

    return Case(
        name=f"{title} {size}",
        group="update",
        op=op,
        arrays=lambda rng: _arrays(rng, shapes),
        expected=expected,
        tolerance=1e-6,
        sizes={"arrays": len(shapes)},
        # The gradient is the one array that is read and not written: read counts every array once.
        stream=Stream(
            "update", read=4.0 * read * count, written=4.0 * written * count, footprint=4.0 * read * count
        ),
        check_calls=CHECK_STEPS,
    )


CASES = [update_case(op, size, shapes) for op in RULES for size, shapes in SHAPES]
