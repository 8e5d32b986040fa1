"""Depth: signals that grow or fade from layer to layer.

The sources say: through L linear layers of gain g a signal becomes g^(L-1) times as large, forward and
backward: 1.5^(L-1) explodes, 0.5^(L-1) vanishes. Deeper networks are harder to train; batch-norm and
residual blocks help. Expected: the law holds to rounding; batch-norm flattens both directions, residual
blocks lift what vanishes; on digits 8 layers of sigmoids end below 1, and both remedies lift them.

Law: 60 layers of 8 units, weights g I. Signals: 30 blocks of linear, ReLU, width 64, weights Kaiming-normal
times g, 256 standard-normal rows; batch-norm before the ReLU; a residual block is x + block(x). Digits: 1
or 8 hidden layers of 30 sigmoids, Xavier-normal, softmax cross-entropy, 2,000 rows, 10 epochs of batches of
20; residual from the second layer on.

Deciding number: the relative error of the law; decades, |log10(size at the last layer / size at the
first)|, of activations and of gradients (50 where one of them is 0); the accuracy on the test rows after
the last epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import init, nn
from fastnn.experiments._design import SIGMOID_RATES, Arm, Experiment, Part, Run, Setting
from fastnn.experiments._digits import digits_trial
from fastnn.experiments._plots import curves, over_epochs_and_seconds
from fastnn.experiments._statistics import Claim
from fastnn.experiments.batch_norm import hidden

LAYERS, BLOCKS, WIDTH = 60, 30, 64
NO_RATE = (float("nan"),)


def sizes(layers: Sequence[nn.Module], x: Any, dy: Any) -> tuple[list[float], list[float]]:
    """Root mean squares of the activations behind each layer and of the gradients there, from the first."""
    forward, backward = [], []
    for layer in layers:
        x = layer.train().forward(x)
        forward.append(float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))))
    for layer in reversed(layers):
        backward.append(float(np.sqrt(np.mean(np.square(dy, dtype=np.float64)))))
        dy = layer.backward(dy)
    return forward, backward[::-1]


def law(setting: Setting) -> dict[str, Arm]:
    def arm(gain: float) -> Arm:
        def trial(rate: float, seed: int, final: bool) -> Run:
            layers = [
                nn.Linear(8, 8, bias=False, weight_init=init.Identity(gain=gain), rng=0)
                for _ in range(LAYERS)
            ]
            one = np.ones((1, 8), np.float32)
            forward, backward = sizes(layers, one, one)
            wanted = [gain**i for i in range(LAYERS)]
            return {
                "score": 0.0,
                "diverged": False,
                "forward": forward,
                "backward": backward,
                "forward_error": max(abs(f / gain / w - 1) for f, w in zip(forward, wanted, strict=True)),
                "backward_error": max(
                    abs(b / w - 1) for b, w in zip(backward, reversed(wanted), strict=True)
                ),
            }

        return Arm(trial, NO_RATE)

    return {f"gain {gain:g}": arm(gain) for gain in (1.5, 0.5)}


def block(kind: str, gain: float) -> nn.Module:
    weights = init.VarianceScaling(2 * gain**2, "fan_in", "normal")
    norm = [nn.BatchNorm1d(WIDTH)] if kind == "batch-norm" else []
    inner = nn.Sequential(nn.Linear(WIDTH, WIDTH, weight_init=weights), *norm, nn.ReLU())
    return nn.Residual(inner) if kind == "residual" else inner


def signals(setting: Setting) -> dict[str, Arm]:
    def arm(kind: str, gain: float) -> Arm:
        def trial(rate: float, seed: int, final: bool) -> Run:
            model = nn.Sequential(*(block(kind, gain) for _ in range(BLOCKS)), seed=seed)
            rng = np.random.default_rng(seed)
            x, dy = (rng.standard_normal((256, WIDTH), np.float32) for _ in range(2))
            forward, backward = sizes(model.layers, x, dy)
            return {
                "score": 0.0,
                "diverged": not (np.isfinite(forward).all() and np.isfinite(backward).all()),
                "forward": forward,
                "backward": backward,
                "forward_decades": decades(forward),
                "backward_decades": decades(backward),
            }

        return Arm(trial, NO_RATE)

    kinds = ("plain", "batch-norm", "residual")
    return {f"{kind}, {gain:g}": arm(kind, gain) for gain in (1.5, 0.5) for kind in kinds}


def decades(course: Sequence[float]) -> float:
    return abs(math.log10(course[-1] / course[0])) if course[-1] and course[0] else 50.0


def deep(kind: str, layers: int, seed: int) -> nn.Module:
    if kind != "residual":
        return hidden(kind, layers, seed)
    weights = init.XavierNormal()
    blocks = [
        nn.Residual(nn.Sequential(nn.Linear(30, 30, weight_init=weights), nn.Sigmoid()))
        for _ in range(layers - 1)
    ]
    first, last = nn.Linear(784, 30, weight_init=weights), nn.Linear(30, 10, weight_init=weights)
    return nn.Sequential(first, nn.Sigmoid(), *blocks, last, seed=seed)


def digits(setting: Setting) -> dict[str, Arm]:
    def arm(kind: str, layers: int) -> Arm:
        return Arm(digits_trial(setting, lambda seed: deep(kind, layers, seed)), SIGMOID_RATES)

    return {
        "1 layer": arm("none", 1),
        "8 layers": arm("none", 8),
        "8, batch-norm": arm("before", 8),
        "8, residual": arm("residual", 8),
    }


def layers_panel(key: str) -> Any:
    return curves(key, f"size, {key}", log="y", x_label="layer")


EXPERIMENT = Experiment(
    "depth",
    __doc__,
    {
        "law": Part(
            law,
            [
                Claim(f"{way.capitalize()}, {arm} follows the law.", arm, 1e-5, f"{way}_error", below=True)
                for arm in ("gain 1.5", "gain 0.5")
                for way in ("forward", "backward")
            ],
            {"forward_error": "relative error, forward", "backward_error": "relative error, backward"},
            (layers_panel("forward"), layers_panel("backward")),
            exact=True,
        ),
        "signals": Part(
            signals,
            [
                Claim(
                    f"{kind.capitalize()} flattens {way} signals, {gain}.",
                    f"{kind}, {gain}",
                    f"plain, {gain}",
                    f"{way}_decades",
                    below=True,
                )
                for kind, gain in (("batch-norm", "1.5"), ("batch-norm", "0.5"), ("residual", "0.5"))
                for way in ("forward", "backward")
            ],
            {"forward_decades": "decades, forward", "backward_decades": "decades, backward"},
            (layers_panel("forward"), layers_panel("backward")),
        ),
        "digits": Part(
            digits,
            [
                Claim("8 layers end below 1.", "8 layers", "1 layer", "test", below=True),
                Claim("Batch-norm lifts 8 layers.", "8, batch-norm", "8 layers", "test"),
                Claim("Residual blocks lift 8 layers.", "8, residual", "8 layers", "test"),
            ],
            {"test": "test accuracy"},
            over_epochs_and_seconds(),
        ),
    },
)
