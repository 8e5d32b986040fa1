"""A sweep of the learning rate.

The sources say: too large a rate oscillates or explodes, too small a one is slow. Expected: the best rate
lies inside, and both ends of the sweep lose against it.

A network 784-30-10, ReLU, softmax cross-entropy, plain gradient descent, 2,000 digits, 10 epochs of batches
of 20. The six rates are arms of their own; a seventh takes the one that held-out rows choose.

Deciding number: the accuracy on the test rows after the last epoch.
"""

from __future__ import annotations

from fastnn.experiments._design import Arm, Experiment, Part, Setting
from fastnn.experiments._digits import dense, digits_trial
from fastnn.experiments._plots import SECONDS, bars, curves
from fastnn.experiments._statistics import Claim

RATES = (0.001, 0.01, 0.03, 0.1, 0.5, 2.0)


def arms(setting: Setting) -> dict[str, Arm]:
    trial = digits_trial(setting, lambda seed: dense(784, 30, 10, seed=seed))
    return {"chosen": Arm(trial, RATES), **{f"{rate:g}": Arm(trial, [rate]) for rate in RATES}}


EXPERIMENT = Experiment(
    "learning-rate",
    __doc__,
    {
        "digits": Part(
            arms,
            [
                Claim(
                    "The smallest rate loses against the chosen one.", "0.001", "chosen", "test", below=True
                ),
                Claim("So does the largest.", "2", "chosen", "test", below=True),
            ],
            {"test": "test accuracy", "loss": "training loss"},
            (
                curves("losses", "training loss", log="y"),
                curves("losses", "training loss", log="y", over="seconds", x_label=SECONDS),
                bars("test", "test accuracy"),
            ),
        )
    },
)
