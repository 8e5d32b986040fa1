"""Rates of PaddlePaddle's schedules for test_schedulers_peers.py, in a process apart from PyTorch's.

Standard input: JSON of name -> [expression, metrics or null]. Standard output, last line: JSON of
name -> rates: of 30 updates, or the first and those after each metric.
"""

import json
import sys

from paddle.optimizer import lr


def rates(expression, metrics):
    schedule = eval(expression, {"lr": lr})
    found = [schedule()]
    for metric in range(29) if metrics is None else metrics:
        schedule.step(*([] if metrics is None else [metric]))
        found.append(schedule())
    return found


print(json.dumps({name: rates(*given) for name, given in json.load(sys.stdin).items()}))
