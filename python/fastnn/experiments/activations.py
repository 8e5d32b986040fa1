"""Sigmoid, tanh and ReLU.

The sources say: above 5 the slopes of sigmoid and tanh are about 0 while ReLU's is 1, and a sigmoid's is at
most 1/4, so gradients vanish through layers of sigmoids. Expected: tanh and ReLU are ahead of the sigmoid.

A network 784-30-30-30-10, softmax cross-entropy, Xavier-normal weights with the gain of the activation,
2,000 digits, 10 epochs of batches of 20.

Deciding number: the accuracy on the test rows after the last epoch. For the slopes: the derivative at 5
(exact; "about 0" is below 0.01).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import init, nn, ops
from fastnn.experiments._design import SIGMOID_RATES, Arm, Experiment, Part, Run, Setting
from fastnn.experiments._digits import dense, digits_trial
from fastnn.experiments._plots import colours, over_epochs_and_seconds
from fastnn.experiments._statistics import Claim

KINDS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


def arms(setting: Setting) -> dict[str, Arm]:
    def arm(kind: str) -> Arm:
        weights = init.XavierNormal(gain=init.gain(kind))

        def model(seed: int) -> nn.Module:
            return dense(784, 30, 30, 30, 10, activation=KINDS[kind], weight_init=weights, seed=seed)

        return Arm(digits_trial(setting, model), SIGMOID_RATES)

    return {kind: arm(kind) for kind in KINDS}


def slopes(_: Setting) -> dict[str, Arm]:
    x = np.linspace(-8, 8, 65, dtype=np.float32).reshape(1, -1)
    five = np.full((1, 1), 5, np.float32)

    def arm(kind: Any) -> Arm:
        def slope(at: Any) -> Any:
            return ops.activation_backward(np.ones_like(at), at, kind)

        def trial(rate: float, seed: int, final: bool) -> Run:
            return {
                "score": 0.0,
                "diverged": False,
                "at_5": slope(five).item(),
                "x": x[0],
                "value": ops.activation(x, kind)[0],
                "slope": slope(x)[0],
            }

        return Arm(trial, (float("nan"),))

    return {kind: arm(kind) for kind in KINDS}


def shapes(key: str, label: str) -> Any:
    def draw(axes: Any, part: dict[str, Any]) -> None:
        for name, colour in colours(part["arms"]).items():
            run = part["arms"][name]["runs"][0]
            axes.plot(run["x"], run[key], color=colour, label=name)
        axes.set(xlabel="z", ylabel=label)
        if key == "value":
            axes.set_ylim(-1.2, 3)

    return draw


EXPERIMENT = Experiment(
    "activations",
    __doc__,
    {
        "slopes": Part(
            slopes,
            [
                Claim("A sigmoid's slope at 5 is about 0.", "sigmoid", 0.01, "at_5", below=True),
                Claim("That of tanh is about 0.", "tanh", 0.01, "at_5", below=True),
                Claim("That of ReLU is not.", "relu", 0.01, "at_5"),
            ],
            {"at_5": "slope at 5"},
            (shapes("value", "f(z)"), shapes("slope", "f'(z)")),
            exact=True,
        ),
        "digits": Part(
            arms,
            [
                Claim("ReLU ends higher than the sigmoid.", "relu", "sigmoid", "test"),
                Claim("Tanh ends higher than the sigmoid.", "tanh", "sigmoid", "test"),
            ],
            {"test": "test accuracy"},
            over_epochs_and_seconds(),
        ),
    },
)
