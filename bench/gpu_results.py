"""What was found on a GPU, in a file from the first finding on: who runs out of time has lost nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastnn
from fastnn import cuda

Put = Callable[[str, Any], None]


class Results:
    """A JSON file with the commit, the device and whatever is added, each time written anew."""

    def __init__(self, path: Path, commit: str) -> None:
        self._path = path
        about = {"commit": commit, "device": cuda.device_info(), "info": fastnn.info()}
        self._found: dict[str, Any] = {**about, "complete": False}
        self._write()

    def put(self, name: str, value: Any) -> None:
        self._found[name] = value
        self._write()

    def part(self, name: str) -> Put:
        """What adds to a part of it."""
        of: dict[str, Any] = self._found.setdefault(name, {})

        def put(key: str, value: Any) -> None:
            of[key] = value
            self._write()

        return put

    def complete(self) -> None:
        """Nothing was left out."""
        self.put("complete", True)
        print(f"wrote {self._path}", flush=True)

    def _write(self) -> None:
        new = self._path.with_name(self._path.name + ".new")
        new.write_text(json.dumps(self._found, indent=1, default=str) + "\n", encoding="utf-8")
        new.replace(self._path)
