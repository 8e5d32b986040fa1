"""Residual: a block and a way past it."""

from __future__ import annotations

from typing import Any

from fastnn import ops
from fastnn._arrays import Array, FloatArray, check_flag
from fastnn._device import as_floats
from fastnn.init import Zeros
from fastnn.nn.batchnorm import BatchNorm1d
from fastnn.nn.module import Module


class Residual(Module):
    """y = block(x) + shortcut(x); without a shortcut y = block(x) + x. Backward sums both gradients.

    Parameters
    ----------
    block : a module, such as a `Sequential`
    shortcut : a module that gives x the block's shape where that is another one, such as a `Linear`
    zero_gamma : True begins with gamma = 0 in the block's last batch-norm, also after `reset_parameters`.
        Where nothing but linear layers without bias follow it, the block then adds nothing at first: training
        begins with the shortcuts alone (Goyal et al. 2017)

    He et al. 2016. Names of parameters begin with "block." and "shortcut.". PyTorch has no such layer: there
    one writes it, and zeroes gamma by hand (`zero_init_residual` of torchvision's ResNet).

    Raises TypeError for what is no module, ValueError when both share a layer or their results differ in
    shape (nothing broadcasts), and for `zero_gamma` with a block that has no BatchNorm1d.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> block = nn.Sequential(nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8))
    >>> narrow = nn.Residual(nn.Linear(8, 4), shortcut=nn.Linear(8, 4))
    >>> model = nn.Sequential(nn.Residual(block), narrow, seed=0)
    >>> model(np.ones((2, 8))).shape
    (2, 4)
    >>> [p.name for p in model.parameters()][:3]
    ['0.block.0.weight', '0.block.1.gamma', '0.block.1.beta']
    >>> block = nn.Sequential(nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8))
    >>> x = np.arange(16.0).reshape(2, 8)
    >>> bool((nn.Residual(block, zero_gamma=True)(x) == x).all())
    True
    """

    def __init__(self, block: Module, shortcut: Module | None = None, *, zero_gamma: bool = False) -> None:
        for name, module in (("block", block), ("shortcut", shortcut)):
            if not isinstance(module, Module) and not (name == "shortcut" and module is None):
                hint = "; pass an object of it, with ()" if isinstance(module, type) else ""
                raise TypeError(f"Residual: {name} must be a Module, got {module!r}{hint}")
        self.block = block
        self.shortcut = shortcut
        self.zero_gamma = check_flag(zero_gamma, "Residual: zero_gamma")
        self._check_unshared()
        if self.zero_gamma:
            norms = [module for module in block.modules() if isinstance(module, BatchNorm1d)]
            if not norms:
                raise ValueError(
                    "Residual: zero_gamma=True needs a BatchNorm1d in the block, which has none; add one as "
                    "its last layer, or leave zero_gamma out"
                )
            norms[-1].gamma.init = Zeros()
            norms[-1].gamma.data[...] = 0

    def forward(self, x: Array) -> FloatArray:
        x = as_floats(x, "Residual: x")
        self._saved = None
        past = x if self.shortcut is None else self.shortcut(x)
        y = self.block(x)
        if y.shape != past.shape:
            raise ValueError(self._mismatch(y.shape, past.shape))
        y = _sum(y, past, "Residual: a result")
        self._saved = y.shape if self.training else None
        return y

    def backward(self, dy: Array, *, accumulate: bool = False, input_grad: bool = True) -> FloatArray | None:
        shape = self._take_saved()
        dy = as_floats(dy, "Residual.backward: dy")
        if dy.shape != shape:
            raise ValueError(f"Residual.backward: dy must have shape {shape}, got {dy.shape}")
        dx = self.block.backward(dy, accumulate=accumulate, input_grad=input_grad)
        past: FloatArray | None = dy
        if self.shortcut is not None:
            past = self.shortcut.backward(dy, accumulate=accumulate, input_grad=input_grad)
        return None if dx is None or past is None else _sum(dx, past, "Residual.backward: a result")

    def _lower(self, lowering: Any, x: Any) -> Any:
        past, past_backward = x, None
        if self.shortcut is not None:
            past, past_backward = lowering.layer(self.shortcut, x)
        inside, block_backward = lowering.layer(self.block, x)
        if inside.shape != past.shape:
            raise ValueError(self._mismatch(lowering.full(inside), lowering.full(past)))
        y = lowering.value(inside.shape)
        lowering.emit("add", inside, past, y, y.size)

        def backward(dy: Any, wanted: bool) -> Any:
            dx = block_backward(dy, wanted)
            dpast = dy if past_backward is None else past_backward(dy, wanted)
            if not wanted:
                return None
            total = lowering.value(x.shape)
            lowering.emit("add", dx, dpast, total, x.size)
            return total

        return y, backward

    def _mismatch(self, block: tuple[Any, ...], past: tuple[Any, ...]) -> str:
        other, cure = "shortcut", ""
        if self.shortcut is None:
            other, cure = "x", "; pass a shortcut= that gives x the block's shape"
        return f"Residual: block gives shape {block}, {other} has {past}{cure}"

    def _arguments(self) -> str:
        return "zero_gamma=True" if self.zero_gamma else ""


def _sum(one: FloatArray, other: FloatArray, what: str) -> FloatArray:
    """Of what two layers gave, which may be the user's own."""
    return ops._add(as_floats(one, what), as_floats(other, what))
