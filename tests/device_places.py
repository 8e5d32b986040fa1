"""Where tests compute, and the arrays there: NumPy's on the CPU; on a device stand-ins over guarded memory
of the host, which the shim's kernels read, and CuPy and PyTorch where there is a GPU.
"""

import contextlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import fake_cupy
import fake_torch
import numpy as np
import pytest
from fastnn import nn
from guard import guarded

STAND_INS = ["CuPy's stand-in", "PyTorch's stand-in"]
REAL = ["CuPy", "PyTorch"]


def few(values, count):
    """For `parametrize`, of tests with `place`: on a device only so many of these.

    Tuples are of several arguments.
    """
    values = list(values)
    host = pytest.mark.host("more of the same")
    more = (value if isinstance(value, tuple) else (value,) for value in values[count:])
    return [*values[:count], *(pytest.param(*value, marks=host) for value in more)]


def each(values, kind, change):
    """`values` with `change` of each of this kind, in dicts, lists and tuples too."""
    if isinstance(values, dict):
        return {name: each(value, kind, change) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return type(values)(each(value, kind, change) for value in values)
    return change(values) if isinstance(values, kind) else values


class Place(NamedTuple):
    """A library with arrays, on the CPU or on the device."""

    put: Callable[[np.ndarray], Any]  # a copy
    get: Callable[[Any], np.ndarray]
    kind: type
    name: str

    @property
    def device(self):
        """As `Trainer` and `Module.to` are told."""
        return "cpu" if self.kind is np.ndarray else "cuda"

    def moved(self, parameters):
        """These, of no model, as `Module.to` moves those of one."""
        for parameter in parameters:
            parameter._move(self.device)
        return parameters

    def all(self, values):
        """`values` with a copy on the device for each array."""
        return each(values, np.ndarray, self.put)

    def back(self, values):
        """The same on the host."""
        return each(values, self.kind, self.get)


class There:
    """A layer, a model or a loss at the place of the test, that takes and gives arrays of the host."""

    def __init__(self, thing):
        self.thing = thing.to(here().device) if isinstance(thing, nn.Module) else thing

    def _host(self, function):
        def call(*given, **options):
            result = function(*here().all(given), **options)
            return self if result is self.thing else here().back(result)

        return call

    def __call__(self, *given):
        return self._host(self.thing)(*given)

    def __getattr__(self, name):
        found = getattr(self.thing, name)
        return self._host(found) if callable(found) else found


def here():
    """The place of the running test (fixture `place`)."""
    return _places[-1]


@contextlib.contextmanager
def inside(found):
    _places.append(found)
    yield
    _places.pop()


def place(name):
    if name == "NumPy":
        return Place(np.array, lambda a: a, np.ndarray, name)
    if name == "CuPy's stand-in":
        return Place(lambda x: fake_cupy.ndarray(guarded(x)), lambda a: a.get(), fake_cupy.ndarray, name)
    if name == "PyTorch's stand-in":
        return Place(lambda x: fake_torch.Tensor(guarded(x)), lambda a: a.array, fake_torch.Tensor, name)
    module = __import__(name.lower().removeprefix("py"))
    if name == "CuPy":
        return Place(module.asarray, lambda a: a.get(), module.ndarray, name)
    return Place(lambda x: module.tensor(x).cuda(), lambda a: a.cpu().numpy(), module.Tensor, name)


def missing(name):
    """Why there are no such arrays here, or None."""
    from fastnn import cuda

    if not cuda.is_available():
        return f"no GPU: {cuda.why_not()}"
    try:
        __import__(name.lower().removeprefix("py"))
    except ImportError as error:
        return str(error)
    if name == "PyTorch" and not sys.modules["torch"].cuda.is_available():
        return "this PyTorch has no CUDA"
    return None


_places = [place("NumPy")]
