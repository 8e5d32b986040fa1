"""`threadpoolctl` limits govern fastnn, whichever of the two is imported first.

threadpoolctl has no place where a library could announce itself before it is imported, and fastnn does not
import it: an import hook for this one name registers the controller when somebody else does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from fastnn._core import build_info, get_num_threads, set_num_threads

_NAME = "threadpoolctl"


def _register(threadpoolctl: ModuleType) -> None:
    """Tell threadpoolctl (3.2 or newer; older ones take no third party) how to read and set our threads."""
    if not hasattr(threadpoolctl, "register"):
        return
    base: Any = threadpoolctl.LibController

    class FastnnController(base):  # type: ignore[misc]
        """Threads of fastnn: `user_api` and `internal_api` are both "fastnn"."""

        user_api = "fastnn"
        internal_api = "fastnn"
        filename_prefixes = ("_core.",)
        check_symbols = ("fastnn_get_num_threads",)  # other packages' libraries are called _core too

        def get_num_threads(self) -> int:
            return get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            set_num_threads(num_threads)

        def get_version(self) -> str:
            return str(build_info()["version"])

    threadpoolctl.register(FastnnController)


class _Watcher:
    """A finder of `sys.meta_path` that lets the others find threadpoolctl and adds a step to its import."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _NAME:
            return None
        others = (f for f in sys.meta_path if f is not self and hasattr(f, "find_spec"))
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        loader: Any = spec and spec.loader
        if loader is None:
            return None
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if module.__name__ == _NAME and self in sys.meta_path:
                sys.meta_path.remove(self)
                _register(module)

        loader.exec_module = exec_module
        return spec


def follow_threadpoolctl() -> None:
    """Register the controller: now, or when threadpoolctl is imported."""
    if _NAME in sys.modules:
        _register(sys.modules[_NAME])
    else:
        sys.meta_path.insert(0, _Watcher())
