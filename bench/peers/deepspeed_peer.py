"""DeepSpeed's optimizers for the CPU, which its users run on parameters kept in host memory; it compiles them
with the machine's own compiler when they are first used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import deepspeed
import torch
from deepspeed.ops.adagrad import DeepSpeedCPUAdagrad
from deepspeed.ops.adam import DeepSpeedCPUAdam

from cases.case import Arrays
from cases.updates import DECAY
from peers import torch_peer
from peers.peer import Prepared


def describe(threads: int) -> dict[str, Any]:
    """The version, after a first use of both: compiling is not left to the first case."""
    torch.set_num_threads(threads)
    for optimizer in (DeepSpeedCPUAdam, DeepSpeedCPUAdagrad):
        optimizer([torch.zeros(1, requires_grad=True)])
    return {"version": deepspeed.__version__, "detail": "CPUAdam, CPUAdagrad"}


def adam(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return torch_peer.update(v, sizes, lambda params: DeepSpeedCPUAdam(params, lr=lr, adamw_mode=False))


def adamw(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return torch_peer.update(v, sizes, lambda params: DeepSpeedCPUAdam(params, lr=lr, weight_decay=DECAY))


def adagrad(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return torch_peer.update(v, sizes, lambda params: DeepSpeedCPUAdagrad(params, lr=lr, eps=1e-10))
