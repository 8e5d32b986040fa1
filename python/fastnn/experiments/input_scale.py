"""Scaled and unscaled inputs.

The sources say: where one feature lies in 1..1000 and another in 0..1, the contours of the cost are long and
thin, so only a small rate is stable and descent needs many steps; with inputs of mean 0 and variance 1 the
contours are round. Expected: scaled inputs allow a larger rate, need fewer steps, and end higher on digits.

Two features: 200 rows, y = 0.01 x1 + 3 x2 + 1, a linear layer with bias, quadratic cost, all rows in each
step, at most 2,000 steps; ten other data sets choose the rate. Digits: a network 784-30-10, ReLU, softmax
cross-entropy, 10 epochs of batches of 20 of 2,000 rows; pixels as bytes 0..255, in 0..1, and standardized.

Deciding number: steps until the cost is a thousandth of the first one; the largest stable rate, 2 / (largest
eigenvalue of the second derivative); on digits the accuracy on the test rows after the last epoch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import losses, nn, optim
from fastnn.experiments._design import Arm, Experiment, Part, Run, Setting
from fastnn.experiments._digits import dense, digits_trial, training_rows
from fastnn.experiments._plots import COLOURS, over_epochs_and_seconds
from fastnn.experiments._statistics import NEVER, Claim
from fastnn.preprocessing import StandardScaler

ROWS, STEPS = 200, 2000
RATES = (1e-6, 5e-6, 1e-3, 0.1, 1.0, 1.9)


def two_features(seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.uniform(1, 1000, ROWS), rng.uniform(0, 1, ROWS)])
    return x, (x @ [0.01, 3.0] + 1.0)[:, None]


def curvature(x: Any) -> Any:
    """The second derivative of the quadratic cost in (w1, w2, b)."""
    wide = np.column_stack([x, np.ones(len(x))])
    return wide.T @ wide / len(x)


def descend(x: Any, y: Any, rate: float, steps: int) -> tuple[list[float], list[list[float]]]:
    """The costs and the weights (w1, w2) along a descent from 0, until the cost is a thousandth."""
    model = nn.Sequential(nn.Linear(2, 1), seed=0)
    weight = model.parameters()[0]
    weight.data = np.zeros((2, 1))
    cost, optimizer = losses.QuadraticCost(), optim.SGD(model.parameters(), rate)
    x32, y32 = x.astype(np.float32), y.astype(np.float32)
    costs: list[float] = []
    path: list[list[float]] = []
    for _ in range(steps + 1):
        value, gradient = cost(model.forward(x32), y32)
        costs.append(value)
        path.append(weight.data[:, 0].tolist())
        if value <= 1e-3 * costs[0] or not value <= 1e6 * costs[0]:
            break
        model.backward(gradient, input_grad=False)
        optimizer.step()
    return costs, path


def contour_arms(setting: Setting) -> dict[str, Arm]:
    steps = setting.few(STEPS, 50)

    def arm(scaled: bool) -> Arm:
        def trial(rate: float, seed: int, final: bool) -> Run:
            x, y = two_features(seed)
            if scaled:
                x = StandardScaler().fit(x).transform(x).astype(np.float64)
            costs, path = descend(x, y, rate, steps)
            arrived = costs[-1] <= 1e-3 * costs[0]
            run: Run = {
                "score": -len(costs) - min(1.0, costs[-1] / costs[0]),
                "diverged": not costs[-1] <= costs[0],
                "steps": len(costs) - 1 if arrived else NEVER,
                "stable": 2 / float(np.linalg.eigvalsh(curvature(x))[-1]),
            }
            if final and seed == 0:
                run["path"] = path[:60]
                run["curvature"] = curvature(x)
                run["best"] = np.linalg.lstsq(np.column_stack([x, np.ones(ROWS)]), y, rcond=None)[0][:2, 0]
            return run

        return Arm(trial, RATES, choosing=10)

    return {"scaled": arm(True), "unscaled": arm(False)}


def contours(name: str, colour: str) -> Any:
    """Contours of the cost in (w1, w2), the bias at its best for each, and the first 60 steps of pair 0."""

    def draw(axes: Any, part: dict[str, Any]) -> None:
        run = part["arms"][name]["runs"][0]
        h, best, path = np.array(run["curvature"]), np.array(run["best"]), np.array(run["path"])
        inner = h[:2, :2] - np.outer(h[:2, 2], h[2, :2])
        reach = 1.3 * np.maximum(np.abs(path - best).max(axis=0), np.abs(best) + 1e-9)
        if alike := bool(reach.max() < 10 * reach.min()):
            reach[:] = reach.max()
        w1, w2 = (np.linspace(b - r, b + r, 81) for b, r in zip(best, reach, strict=True))
        d = np.stack(np.meshgrid(w1 - best[0], w2 - best[1]), axis=-1)
        cost = 0.5 * np.einsum("...i,ij,...j", d, inner, d)
        axes.contour(
            w1, w2, cost, levels=np.geomspace(1e-4, 1, 9) * cost.max(), colors="#999999", linewidths=0.7
        )
        axes.plot(*path.T, marker=".", color=colour, linewidth=1, label=f"{name}: steps of descent")
        axes.locator_params(nbins=6)
        axes.plot(*best, marker="*", color="black", markersize=9, linestyle="none", label="lowest point")
        drawn = f"; drawn {reach[1] / reach[0]:.0f} times as wide as w2"
        axes.set(xlabel=f"w1 ({name}{'' if alike else drawn})", ylabel=f"w2 ({name})")
        if alike:
            axes.set_aspect("equal", adjustable="datalim")

    return draw


def digit_arms(setting: Setting) -> dict[str, Arm]:
    scaler = StandardScaler().fit(training_rows(setting.few(2000, 100))[0])

    def arm(scale: Any) -> Arm:
        return Arm(
            digits_trial(setting, lambda seed: dense(784, 30, 10, seed=seed), scale=scale), DIGIT_RATES
        )

    return {
        "standardized": arm(scaler.transform),
        "0..1": arm(None),
        "0..255": arm(lambda pixels: pixels * np.float32(255)),
    }


DIGIT_RATES = (1e-6, 1e-5, 1e-4, 0.01, 0.1, 1.0)

EXPERIMENT = Experiment(
    "input-scale",
    __doc__,
    {
        "two features": Part(
            contour_arms,
            [
                Claim("Scaled inputs need fewer steps.", "scaled", "unscaled", "steps", below=True),
                Claim("Their largest stable rate is larger.", "scaled", "unscaled", "stable"),
            ],
            {"steps": "steps to a thousandth", "stable": "largest stable rate"},
            (contours("unscaled", COLOURS[1]), contours("scaled", COLOURS[0])),
        ),
        "digits": Part(
            digit_arms,
            [
                Claim("Standardized pixels end above bytes.", "standardized", "0..255", "test"),
                Claim("Pixels in 0..1 end above bytes.", "0..1", "0..255", "test"),
                Claim("Standardized pixels end above 0..1.", "standardized", "0..1", "test"),
            ],
            {"test": "test accuracy"},
            over_epochs_and_seconds(),
        ),
    },
)
