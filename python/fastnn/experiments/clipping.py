"""A recurrent map at a cliff, with and without clipping.

The sources say: products of many derivatives make cliffs in the cost, above all in recurrent networks; one
gradient from the face of a cliff throws the weights far away. The remedy is clipping. Expected: with the
norm clipped at 1, each at its own best rate, descent ends lower.

The map is x <- w sigmoid(x) + b, 50 times from 0.5, and the cost (sigmoid(x) - 0.7)^2 (Pascanu, Mikolov and
Bengio 2013, their figure of a cliff). Starts: w uniform in 4.5..6, b in -3..-1.5, one per pair; 200 updates
by plain descent; ten other starts choose the rate. The map runs on `ops`, its backward is written by hand.

A first run ended undecided: the best rate of both, 16, leaps over the cliff, and there no gradient is long
enough to be clipped. So a second pair of arms, both at the rate 0.25 of the grid, was added to the text
before it ran; its claims are the same.

Deciding number: the mean cost of the last 20 updates; for the cliff, the largest step, |change of (w, b)|.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastnn import nn, ops, optim
from fastnn.experiments._design import Arm, Experiment, Part, Run, Setting
from fastnn.experiments._plots import bars, curves
from fastnn.experiments._statistics import NEVER, Claim

LENGTH, UPDATES, TARGET = 50, 200, 0.7
CLIFF_RATES = (0.063, 0.25, 1.0, 4.0, 16.0, 64.0)


def cost(w: Any, b: Any) -> tuple[float, float, float]:
    """The cost and its derivatives by w (1 x 1) and b (1), forward and back through the map."""
    x = np.full((1, 1), 0.5, np.float32)
    through, squashed = [x], []
    for _ in range(LENGTH):
        squashed.append(ops.activation(through[-1], "sigmoid"))
        through.append(ops.gemm(squashed[-1], w, bias=b))
    last = ops.activation(through[-1], "sigmoid")
    off = last.item() - TARGET
    dx = ops.activation_backward(np.full((1, 1), 2 * off, np.float32), through[-1], "sigmoid", y=last)
    dw = db = 0.0
    for x, s in zip(reversed(through[:-1]), reversed(squashed), strict=True):
        dw += dx.item() * s.item()
        db += dx.item()
        dx = ops.activation_backward(ops.gemm(dx, w), x, "sigmoid", y=s)
    return off * off, dw, db


def descend(
    start: Iterable[float], rate: float, clip: float | None, updates: int
) -> tuple[list[float], float]:
    """The costs of a descent and its largest step."""
    first, second = start
    w, b = nn.Parameter(np.array([[first]])), nn.Parameter(np.array([second]))
    optimizer = optim.SGD([w, b], rate, clip=clip)
    costs: list[float] = []
    largest = 0.0
    for _ in range(updates):
        before = w.data.item(), b.data.item()
        value, dw, db = cost(w.data, b.data)
        costs.append(value)
        if not np.isfinite([value, dw, db]).all():
            break
        w.grad, b.grad = np.array([[dw]]), np.array([db])
        optimizer.step()
        largest = max(largest, float(np.hypot(w.data.item() - before[0], b.data.item() - before[1])))
    return costs, largest


def arms(setting: Setting) -> dict[str, Arm]:
    updates = setting.few(UPDATES, 20)

    def arm(clip: float | None, rates: Sequence[float]) -> Arm:
        def trial(rate: float, seed: int, final: bool) -> Run:
            rng = np.random.default_rng(seed)
            start = rng.uniform(4.5, 6), rng.uniform(-3, -1.5)
            costs, largest = descend(start, rate, clip, updates)
            end = float(np.mean(costs[-20:]))
            diverged = not np.isfinite(end)
            run: Run = {
                "score": -end,
                "diverged": diverged,
                "end": NEVER if diverged else end,
                "largest": largest,
            }
            return {**run, "costs": costs[::4]} if final else run

        return Arm(trial, rates, choosing=10)

    return {
        "clipped": arm(1.0, CLIFF_RATES),
        "not clipped": arm(None, CLIFF_RATES),
        "clipped, 0.25": arm(1.0, [0.25]),
        "not clipped, 0.25": arm(None, [0.25]),
    }


def over_updates(axes: Any, part: dict[str, Any]) -> None:
    curves("costs", "cost")(axes, part)
    axes.set_xlabel("points, 4 updates apart")


def face(axes: Any, _: dict[str, Any]) -> None:
    """The cost along b at w = 5: the cliff."""
    b = np.linspace(-3.5, -1.5, 151)
    w = np.full((1, 1), 5, np.float32)
    axes.plot(b, [cost(w, np.array([at], np.float32))[0] for at in b], color="#000000")
    axes.set(xlabel="b (w = 5)", ylabel="cost")


EXPERIMENT = Experiment(
    "clipping",
    __doc__,
    {
        "map": Part(
            arms,
            [
                Claim("Clipped ends lower.", "clipped", "not clipped", "end", below=True),
                Claim("Its largest step is smaller.", "clipped", "not clipped", "largest", below=True),
                Claim(
                    "At 0.25, clipped ends lower.", "clipped, 0.25", "not clipped, 0.25", "end", below=True
                ),
                Claim(
                    "At 0.25, its largest step is smaller.",
                    "clipped, 0.25",
                    "not clipped, 0.25",
                    "largest",
                    below=True,
                ),
            ],
            {"end": "mean cost of the last 20 updates", "largest": "largest step"},
            (over_updates, face, bars("end", "mean cost of the last 20 updates")),
        )
    },
)
