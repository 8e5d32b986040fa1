"""The networks of the benchmark in PyTorch, and the main job with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch

from cases.case import Array, Arrays
from cases.networks import weights_of
from job import WIDTHS, Files, Run

SIZES = {"widths": WIDTHS, "batch_norm": True}


def network(v: Arrays, sizes: Mapping[str, Any]) -> torch.nn.Sequential:
    """The case's network with its initial weights."""
    layers: list[torch.nn.Module] = []
    batch_norm = sizes["batch_norm"]
    for fan_in, fan_out in pairwise(sizes["widths"][:-1]):
        layers.append(torch.nn.Linear(fan_in, fan_out, bias=not batch_norm))
        layers += [torch.nn.BatchNorm1d(fan_out), torch.nn.ReLU()] if batch_norm else [torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(*sizes["widths"][-2:]))
    linear = [layer for layer in model if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        for layer, initial in zip(linear, weights_of(v), strict=True):
            layer.weight.copy_(torch.from_numpy(initial).T)
            if layer.bias is not None:
                layer.bias.zero_()
    return model


class Job:
    """One run of the main job."""

    def __init__(self, run: Run) -> None:
        self.model = network(dict(zip(Files.WEIGHT_KEYS, run.weights, strict=True)), SIZES)
        self.optimizer = torch.optim.Adam(self.model.parameters(), fused=True)
        self.X, self.Y, self.X_test, self.Y_test = (
            torch.from_numpy(a).clone() for a in (run.X, run.Y, run.X_test, run.Y_test)
        )

    def train(self, batches: Sequence[Array], rates: Sequence[float]) -> list[float]:
        """A step on the rows of each batch."""
        self.model.train()
        losses = []
        for at, rate in zip(batches, rates, strict=True):
            rows = torch.from_numpy(at)
            self.optimizer.param_groups[0]["lr"] = rate
            loss = torch.nn.functional.cross_entropy(self.model(self.X[rows]), self.Y[rows])
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return losses

    def accuracy(self) -> float:
        """The share of the test digits it knows."""
        self.model.eval()
        with torch.no_grad():
            return float((self.model(self.X_test).argmax(1) == self.Y_test).float().mean())
