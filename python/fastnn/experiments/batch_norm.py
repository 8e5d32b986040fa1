"""Batch-norm before and after the activation.

The sources say: batch-norm pulls the inputs of an activation into its sensitive zone, so that gradients
vanish less and training is faster and more accurate. One says it belongs after the activation; its own
reasoning, and the paper that introduced it, say before. Expected: both are ahead of none, and before is
ahead of after.

A network 784-30-30-30-10 of sigmoids, Xavier-normal weights, softmax cross-entropy, 2,000 digits, 10 epochs
of batches of 20.

Deciding number: the accuracy on the test rows after the last epoch; for the zone, the share of inputs of
the third sigmoid beyond +-5 over the held-out rows after training (before against none).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import init, nn
from fastnn.experiments._design import SIGMOID_RATES, Arm, Experiment, Part, Setting
from fastnn.experiments._digits import digits_trial, held_out_rows
from fastnn.experiments._plots import over_epochs_and_seconds
from fastnn.experiments._statistics import Claim


def hidden(place: str, layers: int, seed: int) -> nn.Sequential:
    """`layers` hidden layers of 30 sigmoids with batch-norm before or after each, or with none."""
    weights = init.XavierNormal()
    found: list[nn.Module] = []
    for i in range(layers):
        found.append(nn.Linear(30 if i else 784, 30, bias=place != "before", weight_init=weights))
        found += [nn.BatchNorm1d(30)] if place == "before" else []
        found.append(nn.Sigmoid())
        found += [nn.BatchNorm1d(30)] if place == "after" else []
    return nn.Sequential(*found, nn.Linear(30, 10, weight_init=weights), seed=seed)


def zone(trainer: Any, _: Any) -> dict[str, float]:
    """The share of inputs of the last sigmoid beyond +-5, in evaluation mode."""
    model = trainer.model.to("cpu").eval()
    layers = list(model.layers)
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, nn.Sigmoid))
    z = held_out_rows()[0]
    for layer in layers[:last]:
        z = layer.forward(z)
    return {"saturated": float(np.mean(~(np.abs(z) <= 5)))}


def arms(setting: Setting) -> dict[str, Arm]:
    def arm(place: str) -> Arm:
        return Arm(digits_trial(setting, lambda seed: hidden(place, 3, seed), more=zone), SIGMOID_RATES)

    return {place: arm(place) for place in ("none", "before", "after")}


EXPERIMENT = Experiment(
    "batch-norm",
    __doc__,
    {
        "digits": Part(
            arms,
            [
                Claim("Before the activation ends above none.", "before", "none", "test"),
                Claim("After the activation ends above none.", "after", "none", "test"),
                Claim("Before ends above after.", "before", "after", "test"),
                Claim(
                    "Before leaves fewer inputs in the saturated zone than none.",
                    "before",
                    "none",
                    "saturated",
                    below=True,
                ),
            ],
            {"test": "test accuracy", "saturated": "share of z beyond 5"},
            over_epochs_and_seconds(),
        )
    },
)
