"""What a model does and why: its first weights, its signals and updates, rates, batch sizes, time, memory.

Every function returns a report: `rows` (a list of dicts), `summary`, `warnings`, `plot(path=None)`, and a
table when printed. All of them run on copies: a model, its mode, running statistics, dropout counters and
gradients, and the optimizer stay as they are, bit for bit, also after an error or Ctrl-C. Of a model on a
device the copy whose layers are called one by one is on the CPU, and whole steps are taken on the device.
`StepReports` is a callback that makes reports of the very steps of a fit.

>>> from fastnn import diagnostics, nn
>>> print(diagnostics.check_init(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), seed=0)))
initial weights
layer  kind      std  gain  wanted  identical  stuck  grad norm
0      Linear  0.732  1.47    1.41          0      0       20.5
2      Linear   0.47  1.58       -          0      0       24.8
signal, first to last layer: steady, times 1.32 a layer, 1.32 over 2 layers
gradient, last to first: steady, times 0.521 a layer, 0.521 over 2 layers
"""

from __future__ import annotations

from fastnn.diagnostics._depth import DepthLaw
from fastnn.diagnostics._report import Report
from fastnn.diagnostics.batch_size import gradient_noise_scale, suggest_batch_size
from fastnn.diagnostics.features import feature_report
from fastnn.diagnostics.initialization import check_init
from fastnn.diagnostics.memory import memory_plan
from fastnn.diagnostics.rates import lr_find
from fastnn.diagnostics.signals import signal_report
from fastnn.diagnostics.speed import profile
from fastnn.diagnostics.step_reports import StepReports
from fastnn.diagnostics.steps import step_report

__all__ = [
    "DepthLaw",
    "Report",
    "StepReports",
    "check_init",
    "feature_report",
    "gradient_noise_scale",
    "lr_find",
    "memory_plan",
    "profile",
    "signal_report",
    "step_report",
    "suggest_batch_size",
]
