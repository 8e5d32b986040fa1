"""Learning-rate schedules: functions of the number of updates done so far.

`s(t) -> float`, and the first update uses `s(0)`. Every schedule is a closed form in t, never a recursion on
the rate before, so training can resume at any t. Wherever a schedule is asked for, any function of t will do
and a number stands for a constant rate. `ReduceOnPlateau` alone has a state, which the optimizer saves.

>>> from fastnn import nn, optim, schedulers
>>> cosine = schedulers.CosineAnnealingDecay(1e-3, T_max=90)
>>> layer = nn.Linear(3, 2, rng=0)
>>> optimizer = optim.Adam(layer.parameters(), lr=schedulers.LinearWarmup(cosine, warmup_steps=10))
>>> optimizer.lr
0.0
"""

from fastnn.schedulers._base import Schedule
from fastnn.schedulers._base import as_schedule as as_schedule
from fastnn.schedulers._base import described as described
from fastnn.schedulers._base import plateaus as plateaus
from fastnn.schedulers._compose import LinearWarmup, PerEpoch, Sequence
from fastnn.schedulers._cycles import (
    CosineAnnealingDecay,
    CosineAnnealingWarmRestarts,
    Cyclic,
    OneCycle,
)
from fastnn.schedulers._decays import (
    ExponentialDecay,
    InverseTimeDecay,
    LambdaDecay,
    LinearDecay,
    MultiStepDecay,
    NaturalExpDecay,
    NoamDecay,
    PiecewiseDecay,
    PolynomialDecay,
    StepDecay,
)
from fastnn.schedulers._epochs import Epochs as Epochs
from fastnn.schedulers._plateau import ReduceOnPlateau

__all__ = [
    "CosineAnnealingDecay",
    "CosineAnnealingWarmRestarts",
    "Cyclic",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LambdaDecay",
    "LinearDecay",
    "LinearWarmup",
    "MultiStepDecay",
    "NaturalExpDecay",
    "NoamDecay",
    "OneCycle",
    "PerEpoch",
    "PiecewiseDecay",
    "PolynomialDecay",
    "ReduceOnPlateau",
    "Schedule",
    "Sequence",
    "StepDecay",
]
