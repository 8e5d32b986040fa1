"""The functions of ops that are compiled: those that tests of arrays, memory and bits go through."""

from types import BuiltinFunctionType

from fastnn import ops

NATIVE = [name for name in ops.__all__ if isinstance(getattr(ops, name), BuiltinFunctionType)]
