"""PyTorch under `torch.compile`: whole training steps, and RMSProp, which has no fused form in PyTorch.

The other updates are fused kernels already, and compiling each takes longer than timing it. The sweeps of
batch and width are left out for the same reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from cases.case import Arrays
from peers import torch_peer
from peers.peer import Prepared


def describe(threads: int) -> dict[str, Any]:
    """As PyTorch, but compiled."""
    found = torch_peer.describe(threads)
    return {**found, "detail": found["detail"].replace("eager", "torch.compile")}


def rmsprop(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    torch.compiler.reset()
    prepared = torch_peer.rmsprop(v, sizes, lr)
    return Prepared(torch.compile(prepared.call), prepared.results)


def train_step(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    torch.compiler.reset()
    return torch_peer.train_step(v, sizes, lr, compiled=torch.compile)
