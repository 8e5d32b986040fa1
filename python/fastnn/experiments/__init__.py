"""The experiments of the source documents: each claim with the number that decides it, run with paired seeds.

`python -m fastnn experiments` runs them. The claim and the deciding number stand in the docstring of each
module and are kept with its results. The arms of a comparison start from the same weights and see the same
batches, seed by seed; each takes its own best rate of one grid of six, chosen with other seeds on 1,000
rows held out of the training digits; the test rows are looked at once, when a run has ended. A verdict is
"held" or "reversed" where the 95 % bootstrap interval of the median paired difference lies on one side of
0, else "undecided". A diverged run is marked and counted as a guess, never dropped.

>>> from fastnn import experiments
>>> experiments.EXPERIMENTS["clipping"].title
'A recurrent map at a cliff, with and without clipping'
"""

from __future__ import annotations

from fastnn.experiments import (
    activations,
    batch_norm,
    batch_size,
    clipping,
    cost,
    depth,
    initialization,
    input_scale,
    learning_rate,
    momentum,
    optimizers,
    schedules,
    zero_init,
)
from fastnn.experiments._design import Experiment, Setting

_MODULES = (
    input_scale,
    initialization,
    zero_init,
    activations,
    depth,
    batch_norm,
    cost,
    learning_rate,
    schedules,
    batch_size,
    momentum,
    optimizers,
    clipping,
)

EXPERIMENTS: dict[str, Experiment] = {module.EXPERIMENT.name: module.EXPERIMENT for module in _MODULES}
"""All experiments by name, in the order of the page: inputs, weights, depth, cost, rate, batch, optimizer."""

__all__ = ["EXPERIMENTS", "Experiment", "Setting"]
