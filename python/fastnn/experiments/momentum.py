"""Plain gradient descent and momentum.

The sources say: momentum gathers speed along directions that persist and damps those that alternate, so the
cost falls faster. Expected: momentum is ahead, each at its own best rate.

A network 784-30-10, ReLU, softmax cross-entropy, momentum 0.9 in the sources' style (v = 0.9 v - lr g;
w += v), 2,000 digits, 10 epochs of batches of 20.

Deciding number: the accuracy on the test rows after the last epoch, and that on held-out rows after the
second, which is about speed.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastnn import nn, optim
from fastnn.experiments._design import Arm, Experiment, Part, Setting
from fastnn.experiments._digits import Optimize, after_two_epochs, dense, digits_trial
from fastnn.experiments._plots import over_epochs_and_seconds
from fastnn.experiments._statistics import Claim


def with_momentum(parameters: Iterable[nn.Parameter], rate: float) -> optim.Optimizer:
    return optim.Momentum(parameters, rate, 0.9, style="velocity")


def arms(setting: Setting) -> dict[str, Arm]:
    def arm(optimizer: Optimize) -> Arm:
        return Arm(
            digits_trial(
                setting,
                lambda seed: dense(784, 30, 10, seed=seed),
                optimizer=optimizer,
                more=after_two_epochs,
            )
        )

    return {"momentum": arm(with_momentum), "plain": arm(optim.SGD)}


EXPERIMENT = Experiment(
    "momentum",
    __doc__,
    {
        "digits": Part(
            arms,
            [
                Claim("Momentum ends with the higher accuracy.", "momentum", "plain", "test"),
                Claim("It is ahead after two epochs.", "momentum", "plain", "second"),
            ],
            {"test": "test accuracy", "second": "held-out accuracy, epoch 2"},
            over_epochs_and_seconds(),
        )
    },
)
