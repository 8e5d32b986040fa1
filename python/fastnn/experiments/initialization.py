"""Standard-normal and scaled initialization.

The sources say: weights and biases N(0, 1) give z a variance of about the number of inputs, so that sigmoids
saturate and learn slowly; with weights of variance 1 / n, z is about N(0, 1). Expected: scaled is ahead.
Weights that are too small let signals vanish, too large ones saturate: the deviation matters.

A network 784-30-10, sigmoids between, softmax cross-entropy, 2,000 digits, 10 epochs of batches of 20. The
digits are standardized, so that z has the variance that the sources compute. Sweep: 784-30-30-30-10, tanh,
normal weights of deviation g / sqrt(n) for five g.

Deciding number: the accuracy on the test rows after the last epoch, and the share of first-layer units with
|z| > 5 (a sigmoid's slope is below 0.0067 there) before training, over the held-out rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import init, nn
from fastnn.experiments._design import SIGMOID_RATES, Arm, Experiment, Part, Run, Setting
from fastnn.experiments._digits import dense, digits_trial, held_out_rows, training_rows
from fastnn.experiments._plots import bars, colours, over_epochs_and_seconds
from fastnn.experiments._statistics import Claim
from fastnn.preprocessing import StandardScaler

EDGES = np.linspace(-60, 60, 61)


def arms(setting: Setting) -> dict[str, Arm]:
    scaler = StandardScaler().fit(training_rows(setting.few(2000, 100))[0])
    held_out = scaler.transform(held_out_rows(setting.few(1000, 100))[0])

    def arm(weights: Callable[..., Any], biases: Any) -> Arm:
        def model(seed: int) -> nn.Sequential:
            return dense(784, 30, 10, activation=nn.Sigmoid, weight_init=weights, bias_init=biases, seed=seed)

        train = digits_trial(setting, model, scale=scaler.transform)

        def trial(rate: float, seed: int, final: bool) -> Run:
            run = train(rate, seed, final)
            if final:
                first = model(seed).layers[0]
                z = first.forward(held_out)
                run["saturated"] = float(np.mean(np.abs(z) > 5))
                run["histogram"] = np.histogram(z, EDGES, density=True)[0]
            return run

        return Arm(trial, SIGMOID_RATES)

    return {
        "scaled: variance 1/n": arm(init.LecunNormal(), init.Zeros()),
        "standard normal": arm(init.Normal(0.0, 1.0), init.Normal(0.0, 1.0)),
    }


def sweep(setting: Setting) -> dict[str, Arm]:
    scale = StandardScaler().fit(training_rows(setting.few(2000, 100))[0]).transform

    def arm(gain: float) -> Arm:
        weights = init.VarianceScaling(gain**2, "fan_in", "normal")

        def model(seed: int) -> nn.Sequential:
            return dense(784, 30, 30, 30, 10, activation=nn.Tanh, weight_init=weights, seed=seed)

        return Arm(digits_trial(setting, model, scale=scale))

    return {f"{gain:g}": arm(gain) for gain in (0.01, 0.1, 1.0, 3.0, 10.0)}


def histograms(axes: Any, part: dict[str, Any]) -> None:
    middle = (EDGES[1:] + EDGES[:-1]) / 2
    for name, colour in colours(part["arms"]).items():
        heights = np.median([run["histogram"] for run in part["arms"][name]["runs"]], axis=0)
        axes.plot(middle, heights, drawstyle="steps-mid", color=colour)
    axes.set(xlabel="z of the first layer before training", ylabel="density (median)", yscale="log")
    axes.axvspan(-5, 5, color="#999999", alpha=0.15)


EXPERIMENT = Experiment(
    "initialization",
    __doc__,
    {
        "digits": Part(
            arms,
            [
                Claim(
                    "Scaled weights end with the higher accuracy.",
                    "scaled: variance 1/n",
                    "standard normal",
                    "test",
                ),
                Claim(
                    "Fewer of their units are saturated at first.",
                    "scaled: variance 1/n",
                    "standard normal",
                    "saturated",
                    below=True,
                ),
            ],
            {"test": "test accuracy", "saturated": "share with z beyond 5"},
            (*over_epochs_and_seconds(), histograms),
        ),
        "sweep": Part(
            sweep,
            [
                Claim("Too small a deviation, 0.01, ends below 1.", "0.01", "1", "test", below=True),
                Claim("Too large a deviation, 10, ends below 1.", "10", "1", "test", below=True),
            ],
            {"test": "test accuracy"},
            (*over_epochs_and_seconds(), bars("test", "test accuracy")),
        ),
    },
)
