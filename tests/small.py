"""A network, a trainer and a problem small enough to train in a test; a lone number for an optimizer."""

import fastnn
import numpy as np
from bounds import assert_bits, host
from device_places import here
from fastnn import losses, nn, optim

N, COLUMNS, CLASSES = 50, 6, 3


def labelled_rows():
    """A small learnable problem."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, COLUMNS), np.float32)
    return X, np.argmax(X @ rng.standard_normal((COLUMNS, CLASSES)), axis=1)


def layers(batch_norm=True):
    between = [nn.BatchNorm1d(16)] if batch_norm else []
    return nn.Sequential(
        nn.Linear(COLUMNS, 16, bias=not batch_norm), *between, nn.ReLU(), nn.Linear(16, CLASSES), seed=3
    )


def trainer(model=None, lr=0.01, **options):
    model = model or layers()
    return fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=lr), **options)


def network(seed=0, activation=nn.ReLU):
    return nn.Sequential(
        nn.Linear(5, 8, bias=False),
        nn.BatchNorm1d(8),
        activation(),
        nn.Linear(8, 6),
        activation(),
        nn.Linear(6, 3),
        seed=seed,
    )


def assert_state(model, state):
    for name, array in model.state_dict().items():
        assert_bits(array, state[name], name)


def assert_same_model(one, other):
    """The models of two trainers are equal bit for bit, running statistics included."""
    assert_state(one.model, other.model.state_dict())


def course(opt, p, grads):
    """The value of the lone number p after a step with each gradient."""
    values = []
    for grad in grads:
        p.grad = np.array([grad])
        opt.step()
        values.append(host(p.data).item())
    return values


def parameter(value, **options):
    """Of no model, where the test computes."""
    return here().moved([nn.Parameter(value, **options)])[0]


def one(start=1.0):
    return parameter(np.full(1, start))
