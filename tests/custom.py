"""Layers as a user writes them: with a Parameter, without one, and with inner layers."""

import numpy as np
from fastnn import init, nn


class Scale(nn.Module):
    """y = factor * x, a factor for each column."""

    def __init__(self, columns):
        self.factor = nn.Parameter(np.ones(columns), init=init.Normal(1.0, 0.5))

    def forward(self, x):
        self._saved = x if self.training else None
        return x * self.factor.data

    def backward(self, dy, *, accumulate=False, input_grad=True):
        grad = (dy * self._take_saved()).sum(axis=0)
        self.factor.grad = self.factor.grad + grad if accumulate else grad
        return dy * self.factor.data if input_grad else None


class Square(nn.Module):
    """y = x**2; no parameters."""

    def forward(self, x):
        self._saved = x if self.training else None
        return x * x

    def backward(self, dy, *, accumulate=False, input_grad=True):
        x = self._take_saved()
        return 2 * x * dy if input_grad else None


class Identity(nn.Module):
    """y = x, the very array."""

    passes_on = True

    def forward(self, x):
        return x

    def backward(self, dy, *, accumulate=False, input_grad=True):
        return dy if input_grad else None


class Block(nn.Module):
    """Inner layers as an attribute and in a list."""

    def __init__(self):
        self.first = nn.Linear(4, 4)
        self.rest = [nn.ReLU(), Scale(4)]

    def forward(self, x):
        for layer in [self.first, *self.rest]:
            x = layer(x)
        return x

    def backward(self, dy, *, accumulate=False, input_grad=True):
        for layer in reversed(self.rest):
            dy = layer.backward(dy, accumulate=accumulate)
        return self.first.backward(dy, accumulate=accumulate, input_grad=input_grad)


class Nested(nn.Module):
    """A custom layer that holds custom layers."""

    def __init__(self):
        self.inner = Block()
        self.square = Square()

    def forward(self, x):
        return self.square(self.inner(x))

    def backward(self, dy, *, accumulate=False, input_grad=True):
        dy = self.square.backward(dy, accumulate=accumulate)
        return self.inner.backward(dy, accumulate=accumulate, input_grad=input_grad)
