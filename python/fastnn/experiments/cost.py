"""Quadratic cost and cross-entropy.

The sources say: with sigmoid outputs the quadratic cost learns slowly where the outputs saturate, since its
gradient has the factor f'(z); that of cross-entropy has not. Expected: cross-entropy is ahead.

A network 784-30-10 of sigmoids, weights N(0, 1 / fan_in), 2,000 digits, 10 epochs of batches of 20, one-hot
targets. Binary cross-entropy is a mean over the ten outputs, the quadratic cost half of a sum, so the grid
spans both.

Deciding number: the accuracy on the test rows after the last epoch, and that on held-out rows after the
second, which is about speed.
"""

from __future__ import annotations

from typing import Any

from fastnn import init, losses, nn
from fastnn.experiments._design import Arm, Experiment, Part, Setting
from fastnn.experiments._digits import after_two_epochs, dense, digits_trial
from fastnn.experiments._plots import over_epochs_and_seconds
from fastnn.experiments._statistics import Claim

RATES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def arms(setting: Setting) -> dict[str, Arm]:
    def arm(loss: Any, last: type[nn.Module] | None) -> Arm:
        def model(seed: int) -> nn.Module:
            lecun = init.LecunNormal()
            return dense(784, 30, 10, activation=nn.Sigmoid, last=last, weight_init=lecun, seed=seed)

        return Arm(digits_trial(setting, model, loss=loss, one_hot=True, more=after_two_epochs), RATES)

    return {
        "cross-entropy": arm(losses.BCEWithLogitsLoss(), None),
        "quadratic": arm(losses.QuadraticCost(), nn.Sigmoid),
    }


EXPERIMENT = Experiment(
    "cost",
    __doc__,
    {
        "digits": Part(
            arms,
            [
                Claim("Cross-entropy ends with the higher accuracy.", "cross-entropy", "quadratic", "test"),
                Claim("It is ahead after two epochs.", "cross-entropy", "quadratic", "second"),
            ],
            {"test": "test accuracy", "second": "held-out accuracy, epoch 2"},
            over_epochs_and_seconds(),
        )
    },
)
