"""Networks, rows and trainers that the tests of diagnostics look into."""

import fastnn
import numpy as np
from custom import Block
from fastnn import losses, nn, optim, schedulers
from runs import plateau


def deep(own=False):
    """All kinds of layers, Residuals among them; with `own` also a container of one's own, which a Trainer
    refuses.
    """
    inner = nn.Sequential(nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8))
    return nn.Sequential(
        nn.Linear(4, 8, bias=False),
        nn.BatchNorm1d(8, debias=True),
        nn.Residual(inner),
        nn.GELU(),
        nn.Dropout(0.3),
        nn.Residual(nn.Linear(8, 4), shortcut=nn.Linear(8, 4)),
        *([Block()] if own else []),
        nn.Sequential(nn.Sigmoid(), nn.Linear(4, 3)),
        seed=0,
    )


def rows(n=64):
    rng = np.random.default_rng(1)
    return rng.standard_normal((n, 4), np.float32), rng.integers(0, 3, n)


def trainer(model=None, loss=None, make=None):
    model = model or deep()
    make = make or (lambda ps: optim.Adam(ps, lr=schedulers.LinearWarmup(plateau(), 5)))
    return fastnn.Trainer(model, loss or losses.CrossEntropyLoss(), make(model.parameters()))


def network_of_4():
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3), seed=0)


def zeros(*layers):
    model = nn.Sequential(*layers)
    for parameter in model.parameters():
        parameter.data = np.zeros(parameter.data.shape)
    return model
