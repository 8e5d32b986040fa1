"""One library in a process of its own, driven over pipes: a line of JSON in, a line of JSON out.

The first line out is what the peer says of itself, or `{"absent": reason}`. Then every request names what to
`do`: `prepare` a case (its results are saved for the comparison before any time is taken), take a `turn` of
timing, or a command of the peer's own. An exception is answered as `{"failed": text}`.

`Worker` is the other end: it starts the process, asks, and waits until its threads sleep.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

import cases
from cases.case import CHECK_RATE, TIMING_RATE
from peers.peer import Peer, Prepared

TURN_SECONDS = 0.004
WARM_SECONDS = 0.05  # a call that takes longer is hardly faster for one before it


class WorkerError(RuntimeError):
    """A worker failed or died; the text says which, and what it said last."""


# ---- the process of the library


class Server:
    """Answers requests for one peer's module."""

    def __init__(self, peer: Any) -> None:
        self.peer = peer
        self.call: Prepared | None = None
        self.calls = 1
        self.warm_up = True

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to one request."""
        do = request.pop("do")
        commands = {**getattr(self.peer, "COMMANDS", {}), "prepare": self.prepare, "turn": self.turn}
        commands["first_call"] = self.first_call
        reply: dict[str, Any] = commands[do](**request)
        return reply

    def prepare(self, case: str, results: str) -> dict[str, Any]:
        """Saves the results of the first steps, then makes the case ready to be timed; `{"offered": False}`
        where the library has nothing to do it with."""
        declared = cases.BY_NAME[case]
        setup = getattr(self.peer, declared.op, None)
        self.call = None
        checked = setup and setup(declared.inputs(), declared.sizes, CHECK_RATE)
        if checked is None:
            return {"offered": False}
        for _ in range(-(-declared.check_steps // checked.steps)):
            checked.call()
        np.savez(results, **checked.results())
        del checked
        self.call = setup(declared.inputs(), declared.sizes, TIMING_RATE)
        self.calls = 1
        while (seconds := self._time()) < TURN_SECONDS / 2:
            self.calls *= 2
        self.warm_up = seconds / self.calls < WARM_SECONDS
        self.calls = max(1, round(self.calls * TURN_SECONDS / seconds))
        return {"offered": True, "calls": self.calls}

    def turn(self) -> dict[str, Any]:
        """Seconds a step: the mean of `calls` calls after one that is not counted, which warms the caches."""
        if self.call is None:
            raise RuntimeError("turn: no case is prepared")
        if self.warm_up:
            self.call.call()
        return {"seconds": self._time() / (self.calls * self.call.steps)}

    def first_call(self, case: str) -> dict[str, Any]:
        """Seconds of one call of a case in this process, arrays in the library's form included, and the
        process's peak resident memory in bytes after it."""
        declared = cases.BY_NAME[case]
        inputs = declared.inputs()
        begin = time.perf_counter()
        getattr(self.peer, declared.op)(inputs, declared.sizes, TIMING_RATE).call()
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "peak": peak_memory()}

    def _time(self) -> float:
        assert self.call is not None
        call = self.call.call
        repeats = range(self.calls)
        begin = time.perf_counter()
        for _ in repeats:
            call()
        return time.perf_counter() - begin


def peak_memory() -> int:
    """Bytes of the most memory this process has had (not ru_maxrss, which begins with that of its parent)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def serve(module: str, threads: int) -> None:
    """The life of a worker process: whatever the library prints goes to standard error, not into the
    protocol.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(reply: dict[str, Any]) -> None:
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    # Not every library can be told a number of threads; all of them look at the cores they may run on.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    begin = time.perf_counter()
    try:
        peer = importlib.import_module(f"peers.{module}")
    except ImportError as error:
        say({"absent": str(error)})
        return
    imported = time.perf_counter()
    server = Server(peer)
    ops = sorted({case.op for case in cases.ALL if hasattr(peer, case.op)})
    commands = sorted(getattr(peer, "COMMANDS", {}))
    about = {"ops": ops, "commands": commands, "import_seconds": imported - begin}
    say({**peer.describe(threads), **about})
    for line in sys.stdin:
        try:
            say(server.answer(json.loads(line)))
        except Exception:
            say({"failed": traceback.format_exc()})


# ---- the other end


class Worker:
    """A running worker of `peer`; use as a context manager. `absent` holds the reason when there is none."""

    def __init__(self, peer: Peer, threads: int, isa: str | None = None) -> None:
        self.peer = peer
        self.absent = peer.not_applicable()
        self.about: dict[str, Any] = {}
        self._process: subprocess.Popen[str] | None = None
        if self.absent is not None:
            return
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), peer.module, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=peer.process_environment(threads, isa),
        )
        try:
            self.about = self._read()
        except WorkerError:
            self.close()
            raise
        if "absent" in self.about:
            self.absent = f"absent: {self.about['absent']}"
            self.close()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """One request, one reply; raises WorkerError with the worker's own traceback."""
        if self._process is None or self._process.stdin is None:
            raise WorkerError(f"{self.peer.title}: no worker runs ({self.absent or 'closed'})")
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        reply = self._read()
        if "failed" in reply:
            raise WorkerError(f"{self.peer.title}, {do} {arguments}:\n{reply['failed']}")
        return reply

    def wait_until_quiet(self, most: float = 0.3) -> None:
        """Returns when every thread of the worker sleeps: OpenBLAS and OpenMP threads spin for up to tens of
        milliseconds after their work, on the cores that the next turn needs."""
        if self._process is None:
            return
        threads = Path(f"/proc/{self._process.pid}/task")
        end = time.perf_counter() + most
        while time.perf_counter() < end:
            if all(_sleeps(thread / "stat") for thread in threads.iterdir()):
                return
            time.sleep(0.001)

    def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is None or process.stdin is None or process.stdout is None:
            return
        try:
            process.stdin.close()
        except BrokenPipeError:
            process.kill()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _died(self) -> WorkerError:
        assert self._process is not None
        return WorkerError(f"{self.peer.title}: the worker ended with exit status {self._process.wait()}")


def _sleeps(stat: Path) -> bool:
    try:
        text = stat.read_text()
    except OSError:  # the thread has ended
        return True
    return text[text.rindex(")") + 2] not in "RD"


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
