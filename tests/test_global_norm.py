"""Clipping by a global norm is exact: an update has the length lr * clip, to 1e-6 of float64."""

import itertools

import fastnn
import numpy as np
import pytest
from fastnn import callbacks, data, losses, nn, optim

RATE, CLIP = 100.0, 0.05  # an update as long as the parameters, so that their rounding hides nothing
WIDTHS = {
    "64-32-10": (64, 32, 10),
    "784-256-128-10": (784, 256, 128, 10),
    "300-1000-1000-10": (300, 1000, 1000, 10),
}
ROWS = 256


def check(before, after, grads):
    """One step went from `before` to `after`."""
    norm = np.sqrt(sum(np.sum(g.astype(np.float64) ** 2) for g in grads))
    assert norm > 1.01 * CLIP
    steps = [a.astype(np.float64) - b for a, b in zip(after, before, strict=True)]
    length = np.sqrt(sum(np.sum(step**2) for step in steps))
    assert abs(length / (RATE * CLIP) - 1) < 1e-6
    for step, grad, start in zip(steps, grads, before, strict=True):
        want = -RATE * CLIP / norm * grad.astype(np.float64)
        rounding = 2.0**-24 * (np.abs(start) + np.abs(want))  # of the float32 that is stored
        assert np.all(np.abs(step - want) <= 1e-6 * np.abs(want) + 1.01 * rounding)


def copies(parameters, name="data"):
    return [getattr(p, name).copy() for p in parameters]


def gradients(rng, kind, shapes):
    if kind == "normal":
        return [rng.standard_normal(shape, np.float32) for shape in shapes]
    if kind == "equal":  # the roundings of a sum go one way
        return [np.full(shape, 0.1, np.float32) for shape in shapes]
    return [rng.standard_normal(shape) * 10.0 ** rng.uniform(-12, 3, shape) for shape in shapes]


@pytest.mark.parametrize("kind", ["normal", "equal", "of many sizes"])
def test_arrays(threads, rng, kind):
    shapes = [(784, 256), (256,), (256, 128), (128,), (128, 10), (10,), (1_000_003,), (1,)]
    parameters = [nn.Parameter(np.zeros(shape)) for shape in shapes]
    for parameter, gradient in zip(parameters, gradients(rng, kind, shapes), strict=True):
        parameter.grad = gradient
    before = copies(parameters)
    optim.SGD(parameters, RATE, clip=CLIP).step()
    check(before, copies(parameters), copies(parameters, "grad"))


def problem(widths):
    """A trainer whose gradients are far above the limit, and its rows."""
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
    model = nn.Sequential(*layers[:-2], seed=1)
    trainer = fastnn.Trainer(
        model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), RATE, clip=CLIP), seed=4
    )
    rng = np.random.default_rng(2)
    return trainer, (rng.standard_normal((ROWS, widths[0]), np.float32) * 5, rng.integers(0, 10, ROWS))


def gradients_of(trainer, x, y):
    """Those of a step from here, formed by the layers."""
    kept = trainer.model.state_dict()
    trainer.model.train()
    trainer.model.backward(trainer.loss(trainer.model(x), y)[1])
    trainer.model.load_state_dict(kept)
    return copies(trainer.model.parameters(), "grad")


@pytest.mark.parametrize("network", WIDTHS)
def test_steps(threads, network):
    trainer, (X, Y) = problem(WIDTHS[network])
    for _ in range(3):
        before, grads = copies(trainer.model.parameters()), gradients_of(trainer, X, Y)
        trainer.step(X, Y)
        check(before, copies(trainer.model.parameters()), grads)


class Parameters(callbacks.Callback):
    """Keeps them at the beginning and after each epoch, which is native to its end."""

    def __init__(self):
        self.kept = []

    def on_fit_begin(self, trainer):
        self.kept.append(copies(trainer.model.parameters()))

    def on_epoch_end(self, trainer, logs):
        self.on_fit_begin(trainer)


@pytest.mark.parametrize("network", WIDTHS)
def test_fits(threads, network):
    """Of epochs of one step."""
    trainer, rows = problem(WIDTHS[network])
    twin, _ = problem(WIDTHS[network])
    kept = Parameters()
    trainer.fit(*rows, batch_size=ROWS, epochs=3, callbacks=[kept], progress=False)
    for epoch, (before, after) in enumerate(itertools.pairwise(kept.kept)):
        for parameter, value in zip(twin.model.parameters(), before, strict=True):
            parameter.data = value
        ((x, y),) = data.batches(*rows, ROWS, seed=4, epoch=epoch)
        check(before, after, gradients_of(twin, x, y))
