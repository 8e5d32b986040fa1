"""Zero initialization.

The sources say: from weights that are all 0 the neurons of a layer stay equal to each other, so the network
learns no more than one neuron could. With ReLU the hidden layers get no gradient at all and only the last
bias learns. Expected: zeros lose against scaled weights, and their hidden neurons are equal to the last bit.

A network 784-30-30-10, softmax cross-entropy, 2,000 digits, 10 epochs of batches of 20. Scaled is
Kaiming-uniform.

Deciding number: the accuracy on the test rows after the last epoch; for zeros also the largest difference
between two neurons of the first layer after training (claimed: below the smallest float32).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import init, nn
from fastnn.experiments._design import SIGMOID_RATES, Arm, Experiment, Part, Setting
from fastnn.experiments._digits import dense, digits_trial
from fastnn.experiments._plots import bars, over_epochs_and_seconds
from fastnn.experiments._statistics import Claim


def spread(trainer: Any, _: Any) -> dict[str, float]:
    """Largest difference of two hidden neurons: columns of the first weight, which is (in, out)."""
    weight = trainer.model.to("cpu").layers[0].weight.data
    return {"spread": float((weight.max(axis=1) - weight.min(axis=1)).max())}


def arms(setting: Setting) -> dict[str, Arm]:
    def arm(activation: type[nn.Module], weights: Any) -> Arm:
        def model(seed: int) -> nn.Module:
            return dense(784, 30, 30, 10, activation=activation, weight_init=weights, seed=seed)

        return Arm(digits_trial(setting, model, more=spread), SIGMOID_RATES)

    return {
        "scaled, ReLU": arm(nn.ReLU, None),
        "zeros, ReLU": arm(nn.ReLU, init.Zeros()),
        "scaled, sigmoid": arm(nn.Sigmoid, None),
        "zeros, sigmoid": arm(nn.Sigmoid, init.Zeros()),
    }


SMALLEST = float(np.finfo(np.float32).smallest_subnormal)

EXPERIMENT = Experiment(
    "zero-init",
    __doc__,
    {
        "digits": Part(
            arms,
            [
                Claim("ReLU: zeros end lower.", "zeros, ReLU", "scaled, ReLU", "test", below=True),
                Claim("Sigmoid: zeros end lower.", "zeros, sigmoid", "scaled, sigmoid", "test", below=True),
                Claim("ReLU: the neurons stay equal.", "zeros, ReLU", SMALLEST, "spread", below=True),
                Claim("Sigmoid: the neurons stay equal.", "zeros, sigmoid", SMALLEST, "spread", below=True),
            ],
            {"test": "test accuracy", "spread": "largest difference of two neurons"},
            (*over_epochs_and_seconds(), bars("spread", "largest difference of two neurons")),
        )
    },
)
