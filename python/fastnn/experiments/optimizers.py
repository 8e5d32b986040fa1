"""Optimizers.

The sources say: momentum and the methods that adapt the rate of each weight are faster than plain descent and
leave saddle points sooner; AdaGrad shrinks its rate too much; Adam is the default choice. Expected: Adam is
ahead of plain descent on digits and needs fewer steps on Beale's and Rosenbrock's functions; RMSProp is ahead
of AdaGrad.

Digits: a network 784-30-10, ReLU, softmax cross-entropy, 2,000 rows, 10 epochs of batches of 20.
Beale: (1.5 - x + x y)^2 + (2.25 - x + x y^2)^2 + (2.625 - x + x y^3)^2; Rosenbrock: (1 - x)^2 +
100 (y - x^2)^2; starts uniform in [-2, 2]^2, one per pair, at most 1,000 steps; ten other starts
choose the rate. A walk diverges when it leaves [-10,000, 10,000]^2.
Saddle: x^2 - y^2 from (1, 1e-3), all at the rate 0.01, since a larger one always leaves sooner.

Deciding number: the accuracy on the test rows after the last epoch; steps until the function is below 0.01;
steps until |y| > 1 on the saddle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastnn import nn, optim
from fastnn.experiments._design import Arm, Experiment, Part, Run, Setting
from fastnn.experiments._digits import Optimize, dense, digits_trial
from fastnn.experiments._plots import bars, curves, over_epochs_and_seconds
from fastnn.experiments._statistics import NEVER, Claim

STEPS, EVERY = 1000, 20
SURFACE_RATES = (0.001, 0.004, 0.016, 0.1, 1.0, 5.0)
Surface = Callable[[float, float], tuple[float, float, float]]


def momentum(parameters: Iterable[nn.Parameter], rate: float) -> optim.Optimizer:
    return optim.Momentum(parameters, rate, 0.9)


OPTIMIZERS: dict[str, Optimize] = {
    "plain": optim.SGD,
    "momentum": momentum,
    "AdaGrad": optim.AdaGrad,
    "RMSProp": optim.RMSProp,
    "Adam": optim.Adam,
}


def beale(x: float, y: float) -> tuple[float, float, float]:
    """Value and gradient; lowest at (3, 0.5)."""
    a, b, c = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    return (
        a * a + b * b + c * c,
        2 * a * (y - 1) + 2 * b * (y**2 - 1) + 2 * c * (y**3 - 1),
        2 * a * x + 4 * b * x * y + 6 * c * x * y**2,
    )


def rosenbrock(x: float, y: float) -> tuple[float, float, float]:
    """Value and gradient; lowest at (1, 1)."""
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2, 2 * (x - 1) - 400 * x * (y - x * x), 200 * (y - x * x)


def saddle(x: float, y: float) -> tuple[float, float, float]:
    """Value and gradient of x^2 - y^2."""
    return x * x - y * y, 2 * x, -2 * y


def walk(
    surface: Surface,
    start: tuple[float, float],
    make: Optimize,
    rate: float,
    arrived: Callable[[float, float, float], bool],
    steps: int,
) -> tuple[int | None, list[float]]:
    """Steps until `arrived(value, x, y)`, or None, and the value before each step; it ends beyond 1e4."""
    point = nn.Parameter(np.array(start))
    optimizer = make([point], rate)
    values: list[float] = []
    for step in range(steps + 1):
        x, y = point.data.tolist()
        if not (abs(x) < 1e4 and abs(y) < 1e4):
            break
        value, gx, gy = surface(x, y)
        values.append(value)
        if arrived(value, x, y):
            return step, values
        point.grad = np.array([gx, gy])
        optimizer.step()
    return None, values


def surface_arms(surface: Surface, setting: Setting) -> dict[str, Arm]:
    steps = setting.few(STEPS, 20)

    def arm(make: Optimize) -> Arm:
        def trial(rate: float, seed: int, final: bool) -> Run:
            start = np.random.default_rng(seed).uniform(-2, 2, 2).tolist()
            count, values = walk(surface, start, make, rate, lambda value, x, y: value < 0.01, steps)
            run: Run = {
                "score": -(steps + 1.0 if count is None else count) - min(values[-1], 1.0) / 2,
                "diverged": len(values) <= steps and count is None,
                "steps": NEVER if count is None else count,
            }
            if final:  # a walk that has arrived stays where it is
                rest = [] if count is None else values[-1:] * (steps + 1 - len(values))
                run["values"] = (values + rest)[::EVERY]
            return run

        return Arm(trial, SURFACE_RATES, choosing=10)

    return {name: arm(make) for name, make in OPTIMIZERS.items()}


def saddle_arms(setting: Setting) -> dict[str, Arm]:
    def arm(make: Optimize) -> Arm:
        def trial(rate: float, seed: int, final: bool) -> Run:
            count, _ = walk(saddle, (1.0, 1e-3), make, rate, lambda value, x, y: abs(y) > 1, 10_000)
            return {"score": 0.0, "diverged": False, "steps": NEVER if count is None else count}

        return Arm(trial, [0.01])

    return {name: arm(make) for name, make in OPTIMIZERS.items()}


def digit_arms(setting: Setting) -> dict[str, Arm]:
    return {
        name: Arm(digits_trial(setting, lambda seed: dense(784, 30, 10, seed=seed), optimizer=make))
        for name, make in OPTIMIZERS.items()
    }


def surface_part(surface: Surface) -> Part:
    def arms(setting: Setting) -> dict[str, Arm]:
        return surface_arms(surface, setting)

    def over_steps(axes: Any, part: dict[str, Any]) -> None:
        curves("values", "value of the function", log="y")(axes, part)
        axes.set_xlabel(f"points, {EVERY} steps apart")

    claims = [
        Claim("Adam needs fewer steps than plain descent.", "Adam", "plain", "steps", below=True),
        Claim("So does momentum.", "momentum", "plain", "steps", below=True),
    ]
    return Part(
        arms, claims, {"steps": "steps to 0.01"}, (over_steps, bars("steps", "steps to 0.01", log=True))
    )


EXPERIMENT = Experiment(
    "optimizers",
    __doc__,
    {
        "digits": Part(
            digit_arms,
            [
                Claim("Adam ends above plain descent.", "Adam", "plain", "test"),
                Claim("Momentum ends above plain descent.", "momentum", "plain", "test"),
                Claim("RMSProp ends above AdaGrad.", "RMSProp", "AdaGrad", "test"),
            ],
            {"test": "test accuracy"},
            over_epochs_and_seconds(),
        ),
        "Beale": surface_part(beale),
        "Rosenbrock": surface_part(rosenbrock),
        "saddle": Part(
            saddle_arms,
            [
                Claim(f"{name} leaves sooner than plain descent.", name, "plain", "steps", below=True)
                for name in OPTIMIZERS
                if name != "plain"
            ],
            {"steps": "steps until abs(y) > 1"},
            exact=True,
        ),
    },
)
