"""Sequential: layers one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast, overload

from fastnn._arrays import Array, FloatArray
from fastnn.nn.activations import (
    ELU,
    GELU,
    SELU,
    Activation,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from fastnn.nn.batchnorm import BatchNorm1d
from fastnn.nn.linear import Linear
from fastnn.nn.module import Fusable, Module


class Sequential(Module):
    """The layers one after the other: forward in order, backward in reverse.

    Parameters
    ----------
    layers : modules, at least one, each object only once (a layer remembers one batch)
    seed : integer that draws all weights, in layer order, from one NumPy generator; None keeps what the
        layers hold

    `model[i]`, `len(model)` and iteration give the layers, `model[i:j]` a Sequential of the same layers,
    whose parameters keep their names.

    An activation behind a Linear or BatchNorm1d is computed by that layer's kernel while it stores its result
    (in training not GELU, SiLU and Softplus, whose backward needs the result before; never one with a slope
    or alpha of its own); results and gradients are the same bit for bit.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> hidden = nn.Linear(784, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU()
    >>> model = nn.Sequential(*hidden, nn.Linear(256, 10), seed=0)
    >>> model
    Sequential()                                                               0
      0: Linear(784, 256, bias=False)  weight (784, 256)                 200,704
      1: BatchNorm1d(256)              gamma (256,) beta (256,)              512
      2: ReLU()                                                                0
      3: Linear(256, 10)               weight (256, 10) bias (10,)         2,570
    203,786 parameters
    """

    def __init__(self, *layers: Module, seed: int | None = None) -> None:
        if not layers:
            raise ValueError("Sequential: needs at least one layer, got none")
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                hint = "; pass an object of it, with ()" if isinstance(layer, type) else ""
                raise TypeError(f"Sequential: layer {i} must be a Module, got {layer!r}{hint}")
        self.layers = layers
        self.passes_on = all(layer.passes_on for layer in layers)
        self._check_unshared()
        # One entry per kernel: the layer, and the kind of the activation behind it that its kernel applies.
        self._groups: list[tuple[Module, Any]] = []
        for i in range(len(layers)):
            if not self._fuses(i - 1):
                kind = cast(Activation, layers[i + 1]).kind if self._fuses(i) else None
                self._groups.append((layers[i], kind))
        # The first one with parameters: where dx is not wanted, nothing in front of it has work to do.
        trained = (i for i, (layer, _) in enumerate(self._groups) if layer.parameters())
        self._first_trained = next(trained, len(self._groups))
        for name, parameter in self.named_parameters():
            parameter.name = name
        if seed is not None:
            self.reset_parameters(seed)

    def _fuses(self, i: int) -> bool:
        """Whether layer i applies the activation behind it; not if its result leaves: the caller may change
        it.
        """
        return (
            0 <= i < len(self.layers) - 2
            and not all(layer.passes_on for layer in self.layers[i + 2 :])
            and type(self.layers[i]) in (Linear, BatchNorm1d)
            and _fits_a_kernel(self.layers[i + 1])
        )

    def forward(self, x: Array) -> FloatArray:
        for layer, activation in self._groups:
            x = cast(Fusable, layer).forward_activated(x, activation) if activation else layer.forward(x)
        return x

    def backward(self, dy: Array, *, accumulate: bool = False, input_grad: bool = True) -> FloatArray | None:
        first = 0 if input_grad else self._first_trained
        for i in reversed(range(first, len(self._groups))):
            wanted = input_grad or i > first
            dx = self._groups[i][0].backward(dy, accumulate=accumulate, input_grad=wanted)
            if dx is None:
                return None
            dy = dx
        return dy if input_grad else None

    def _lower(self, lowering: Any, x: Any) -> Any:
        backwards = []
        for layer, activation in self._groups:
            x, backward_of_layer = lowering.layer(layer, x, activation)
            backwards.append(backward_of_layer)

        def backward(dy: Any, wanted: bool) -> Any:
            first = 0 if wanted else self._first_trained
            for i in reversed(range(first, len(backwards))):
                dy = backwards[i](dy, wanted or i > first)
            return dy if wanted else None

        return x, backward

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((str(i), layer) for i, layer in enumerate(self.layers))

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Module:
        if not isinstance(index, slice):
            return self.layers[index]
        names = [(parameter, parameter.name) for parameter in self.parameters()]
        part = Sequential(*self.layers[index])
        for parameter, name in names:
            parameter.name = name
        return part

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)


_KINDS = (ReLU, LeakyReLU, Sigmoid, Tanh, GELU, SiLU, ELU, SELU, Softplus)  # GELU stands for two
_ALPHAS = {"leaky_relu": 0.01, "elu": 1.0}  # of the kernels


def _fits_a_kernel(layer: Module) -> bool:
    """Whether kernels apply this activation: a subclass may do anything, and their alpha is the default."""
    if type(layer) not in _KINDS:
        return False
    activation = cast(Activation, layer)
    return activation._alpha == _ALPHAS.get(activation.kind)
