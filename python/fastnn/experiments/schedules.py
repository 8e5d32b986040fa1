"""Schedules of the learning rate.

The sources say: large first, smaller later; cosine and warm-up are "used a lot". Expected: each schedule
ends above a constant rate, each at its own best initial rate.

A network 784-64-10, ReLU, softmax cross-entropy, momentum 0.9, 2,000 digits, 12 epochs of batches of 20
(1,200 updates). Step: a tenth after 2/3 of the updates. Cosine: to 0. Warm-up: over a tenth, then cosine.
Plateau: half when the training loss has not fallen by 10 % in an epoch.

Deciding number: the accuracy on the test rows after the last epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastnn import nn, optim, schedulers
from fastnn.experiments._design import Arm, Experiment, Part, Setting
from fastnn.experiments._digits import dense, digits_trial
from fastnn.experiments._plots import over_epochs_and_seconds
from fastnn.experiments._statistics import Claim

UPDATES = 1200
SCHEDULES: dict[str, Callable[[float], Any]] = {
    "constant": lambda rate: rate,
    "step": lambda rate: schedulers.MultiStepDecay(rate, [UPDATES * 2 // 3]),
    "cosine": lambda rate: schedulers.CosineAnnealingDecay(rate, UPDATES, after="hold"),
    "warm-up, cosine": lambda rate: schedulers.LinearWarmup(
        schedulers.CosineAnnealingDecay(rate, UPDATES - UPDATES // 10, after="hold"), UPDATES // 10
    ),
    "plateau": lambda rate: schedulers.ReduceOnPlateau(
        rate, factor=0.5, patience=0, threshold=0.1, monitor="loss"
    ),
}


def arms(setting: Setting) -> dict[str, Arm]:
    def arm(schedule: Callable[[float], Any]) -> Arm:
        def optimizer(parameters: Iterable[nn.Parameter], rate: float) -> optim.Optimizer:
            return optim.Momentum(parameters, schedule(rate), 0.9)

        trial = digits_trial(
            setting, lambda seed: dense(784, 64, 10, seed=seed), optimizer=optimizer, epochs=12
        )
        return Arm(trial)

    return {name: arm(schedule) for name, schedule in SCHEDULES.items()}


EXPERIMENT = Experiment(
    "schedules",
    __doc__,
    {
        "digits": Part(
            arms,
            [
                Claim(f"{name.capitalize()} ends above a constant rate.", name, "constant", "test")
                for name in SCHEDULES
                if name != "constant"
            ],
            {"test": "test accuracy", "loss": "training loss"},
            over_epochs_and_seconds(),
        )
    },
)
