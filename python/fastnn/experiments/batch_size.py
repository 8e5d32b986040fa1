"""Batch sizes.

The sources say: a larger batch gives more samples a second and a gradient whose deviation falls as 1 /
sqrt(n), but needs more epochs to the same accuracy; in time and in final accuracy the best size lies
between 1 and all. Powers of two are said to be better; nothing on a CPU should fall off at 31, 33 or 100.

A network 784-30-10, ReLU, softmax cross-entropy, plain descent, 1,000 digits, 12 epochs; all rows at once
with Rprop for 100 epochs. The target is an accuracy of 0.85 on held-out rows, looked at after each epoch.
The deviation is that of 20 batches' gradients at the first weights from the gradient of all rows, over its
length.

Deciding number: samples a second; epochs and seconds of training until the target; the accuracy on the test
rows after the last epoch; the deviation of the gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import losses, nn, optim
from fastnn.experiments._design import Arm, Experiment, Part, Run, Setting
from fastnn.experiments._digits import dense, digits_trial, training_rows
from fastnn.experiments._plots import bars, over_epochs_and_seconds
from fastnn.experiments._statistics import NEVER, Claim

SIZES = (1, 10, 31, 32, 33, 100, 128)
ROWS, TARGET = 1000, 0.85
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def to_target(_: Any, epochs: list[dict[str, float]]) -> dict[str, float]:
    reached = [i for i, epoch in enumerate(epochs) if epoch["held_out"] >= TARGET]
    seconds = np.cumsum([epoch["seconds"] for epoch in epochs])
    return {
        "epochs_to": reached[0] + 1 if reached else NEVER,
        "seconds_to": float(seconds[reached[0]]) if reached else NEVER,
        "samples": float(np.median([epoch["samples_per_second"] for epoch in epochs])),
    }


def deviation(model: nn.Module, size: int, rows: int, seed: int) -> float:
    """Root mean square distance of 20 batches' gradients from that of all rows, over its length."""
    x, y = training_rows(rows)
    loss = losses.CrossEntropyLoss()

    def gradient(of: Any) -> Any:
        model.backward(loss(model.forward(x[of]), y[of])[1], input_grad=False)
        return np.concatenate([parameter.grad.ravel() for parameter in model.parameters()])

    everything = gradient(np.arange(len(x)))
    rng = np.random.default_rng(seed)
    drawn = [gradient(rng.choice(len(x), size, replace=False)) for _ in range(20)]
    distances = [np.linalg.norm(g - everything) for g in drawn]
    return float(np.sqrt(np.mean(np.square(distances))) / np.linalg.norm(everything))


def arms(setting: Setting) -> dict[str, Arm]:
    rows = setting.few(ROWS, 100)

    def model(seed: int) -> nn.Sequential:
        return dense(784, 30, 10, seed=seed)

    def arm(size: int, optimizer: Any, epochs: int) -> Arm:
        train = digits_trial(
            setting, model, optimizer=optimizer, rows=rows, epochs=epochs, batch_size=size, more=to_target
        )

        def trial(rate: float, seed: int, final: bool) -> Run:
            run = train(rate, seed, final)
            return {**run, "deviation": deviation(model(seed), min(size, rows), rows, seed)} if final else run

        return Arm(trial, RATES)

    found = {str(size): arm(size, optim.SGD, 12) for size in SIZES}
    return {**found, "all, Rprop": arm(rows, optim.Rprop, 100)}


def law(axes: Any, part: dict[str, Any]) -> None:
    """The deviation over the batch size, and the law through the first point.

    The rows of a batch differ, so what is left of N rows counts: sqrt((N - n) / (n (N - 1))).
    """
    sizes = [size for size in SIZES if str(size) in part["arms"]]
    found = [np.median([run["deviation"] for run in part["arms"][str(s)]["runs"]]) for s in sizes]
    axes.loglog(sizes, found, "o", color="#0072B2", label="deviation of the gradient (median)")
    n = np.geomspace(1, sizes[-1], 50)
    axes.loglog(n, found[0] / np.sqrt(n), "--", color="#999999", label="1 / sqrt(n)")
    rest = np.sqrt((ROWS - n) / (ROWS - 1))
    axes.loglog(n, found[0] / np.sqrt(n) * rest, ":", color="black", label="1 / sqrt(n), of 1,000 rows")
    axes.set(xlabel="batch size", ylabel="deviation over length")


EXPERIMENT = Experiment(
    "batch-size",
    __doc__,
    {
        "digits": Part(
            arms,
            [
                Claim("128 gives more samples a second than 1.", "128", "1", "samples"),
                Claim("128 needs more epochs to the target than 10.", "128", "10", "epochs_to"),
                Claim("32 needs less time to the target than 1.", "32", "1", "seconds_to", below=True),
                Claim(
                    "32 needs less time than all rows with Rprop.",
                    "32",
                    "all, Rprop",
                    "seconds_to",
                    below=True,
                ),
                Claim("10 ends above all rows with Rprop.", "10", "all, Rprop", "test"),
                Claim("32 gives more samples a second than 31.", "32", "31", "samples"),
                Claim("32 gives more samples a second than 33.", "32", "33", "samples"),
                Claim("100 deviates less than 1.", "100", "1", "deviation", below=True),
            ],
            {
                "samples": "samples/s",
                "epochs_to": "epochs to target",
                "seconds_to": "seconds to target",
                "test": "test accuracy",
                "deviation": "gradient deviation",
            },
            (*over_epochs_and_seconds(log="x"), bars("samples", "samples/s", log=True), law),
        )
    },
)
