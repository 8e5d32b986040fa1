"""Kernels on the device against PyTorch's, results compared first: beside the epochs of gpu_steps.py.

Times are CUDA events around many calls, of fastnn and PyTorch in turn. The calls go through several sets of
random arrays, together larger than the second-level cache. Products are replayed from graphs: a small one
takes less time than its call from Python.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from fastnn import ops

import gpu_cublaslt
from gpu_results import Put

DEVICE = "cuda"
CACHE_BYTES = 256 << 20  # of several devices' second level
ROUND_MS, ROUNDS = 20.0, 15
TENSOR_TERAFLOPS = {"bfloat16": 989.5, "tf32": 494.7, "float32": 66.9}  # of an H100 or H200 (SXM), dense
SQUARES = (8192, 4096, 2048, 1024, 512, 256, 128, 64)
ROWS = ((512, 2048), (8192, 1024), (50176, 64))
PARAMETERS = 100_000_000
CANDIDATES = 8  # kernels of cuBLASLt for each of the smaller squares
CANDIDATES_UP_TO = 512
WORKSPACE_BYTES = 32 << 20  # for each of them

Call = Callable[..., Any]


class Case(NamedTuple):
    """A kernel: what makes a set of arrays, and the two that take them and give the result."""

    name: str
    make: Callable[[], tuple[Any, ...]]
    fastnn: Call
    torch: Call
    tolerance: float  # of the largest number of the result
    flops: float = 0.0
    floats: float = 0.0  # moved at least: read and written once each
    peak: str = ""  # of TENSOR_TERAFLOPS; a product, replayed from a graph
    square: int = 0  # of whose product each kernel of cuBLASLt is timed


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Any:
    return torch.randn(shape, device=DEVICE).to(dtype)


def products() -> Iterator[Case]:
    kinds = {"bfloat16": torch.bfloat16, "tf32": torch.float32, "float32": torch.float32}
    for precision, dtype in kinds.items():
        for n in SQUARES if precision == "bfloat16" else SQUARES[1:]:
            options = {"tf32": True} if precision == "tf32" else {}
            tolerance = {"bfloat16": 1e-2, "tf32": 2e-3, "float32": 1e-4}[precision]
            given: dict[str, Any] = {"flops": 2.0 * n**3, "peak": precision}

            def make(n: int = n, dtype: torch.dtype = dtype) -> tuple[Any, ...]:
                out = torch.empty(n, n, device=DEVICE, dtype=dtype)
                return random(n, n, dtype=dtype), random(n, n, dtype=dtype), random(n), out

            def plain(a: Any, b: Any, _: Any, out: Any, options: dict[str, bool] = options) -> Any:
                return ops.gemm(a, b, out=out, **options)

            def fused(a: Any, b: Any, bias: Any, out: Any, options: dict[str, bool] = options) -> Any:
                return ops.gemm(a, b, out=out, bias=bias, activation="relu", **options)

            def of_torch(a: Any, b: Any, _: Any, out: Any) -> Any:
                return torch.mm(a, b, out=out)

            def fused_of_torch(a: Any, b: Any, bias: Any, _: Any) -> Any:
                return torch.relu(torch.addmm(bias.to(a.dtype), a, b))

            name = f"gemm {precision} {n}"
            square = n if n <= CANDIDATES_UP_TO else 0
            yield Case(name, make, plain, of_torch, tolerance, **given, square=square)
            yield Case(f"{name} + bias + relu", make, fused, fused_of_torch, tolerance, **given)


def updates() -> Iterator[Case]:
    def make(slots: int) -> Callable[[], tuple[Any, ...]]:
        return lambda: (
            *(random(PARAMETERS) for _ in range(2)),
            *(random(PARAMETERS).abs_() for _ in range(slots)),
        )

    def step(optimizer: Any, slots: tuple[str, ...]) -> Call:
        """A step of PyTorch's on these arrays, which keep their memory."""
        made: dict[int, Any] = {}

        def call(p: Any, g: Any, *state: Any) -> Any:
            if p.data_ptr() not in made:
                parameter = torch.nn.Parameter(p)
                parameter.grad = g
                made[p.data_ptr()] = run = optimizer([parameter])
                run.state[parameter] = dict(zip(slots, state)) | {"step": torch.ones((), device=DEVICE)}
            made[p.data_ptr()].step()
            return p

        return call

    def adam(p: Any, g: Any, m: Any, v: Any) -> Any:
        ops.adam_(p, g, m, v, lr=1e-3, step=2)
        return p

    def momentum(p: Any, g: Any, velocity: Any) -> Any:
        ops.momentum_(p, g, velocity, lr=1e-3)
        return p

    def rmsprop(p: Any, g: Any, square_avg: Any) -> Any:
        ops.rmsprop_(p, g, square_avg, lr=1e-3, rho=0.99)
        return p

    of_adam = step(lambda p: torch.optim.Adam(p, lr=1e-3, fused=True), ("exp_avg", "exp_avg_sq"))
    of_momentum = step(lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9, fused=True), ("momentum_buffer",))
    of_rmsprop = step(lambda p: torch.optim.RMSprop(p, lr=1e-3, foreach=True), ("square_avg",))
    yield Case("adam, 100 million", make(2), adam, of_adam, 1e-5, floats=7.0 * PARAMETERS)
    yield Case("momentum, 100 million", make(1), momentum, of_momentum, 1e-5, floats=5.0 * PARAMETERS)
    yield Case("rmsprop, 100 million", make(1), rmsprop, of_rmsprop, 1e-5, floats=5.0 * PARAMETERS)


def batch_norm() -> Iterator[Case]:
    def forward(x: Any, _: Any, gamma: Any, beta: Any) -> Any:
        return ops.batch_norm(x, gamma, beta)[0]

    def of_torch(x: Any, _: Any, gamma: Any, beta: Any) -> Any:
        return torch.native_batch_norm(x, gamma, beta, None, None, True, 0.1, 1e-5)[0]

    def with_relu(x: Any, _: Any, gamma: Any, beta: Any) -> Any:
        return ops.batch_norm(x, gamma, beta, activation="relu")[0]

    def torch_with_relu(*given: Any) -> Any:
        return torch.relu_(of_torch(*given))

    def backward(x: Any, dy: Any, gamma: Any, _: Any, mean: Any, rstd: Any) -> Any:
        return ops.batch_norm_backward(dy, x, gamma, mean, rstd)[0]

    def torch_backward(x: Any, dy: Any, gamma: Any, _: Any, mean: Any, rstd: Any) -> Any:
        mask = [True, True, True]
        return torch.ops.aten.native_batch_norm_backward(
            dy, x, gamma, None, None, mean, rstd, True, 1e-5, mask
        )[0]

    def backward_with_relu(x: Any, dy: Any, gamma: Any, _: Any, mean: Any, rstd: Any, y: Any) -> Any:
        return ops.batch_norm_backward(dy, x, gamma, mean, rstd, y=y, activation="relu")[0]

    def torch_backward_with_relu(x: Any, dy: Any, *given: Any) -> Any:
        *given, y = given
        return torch_backward(x, torch.ops.aten.threshold_backward(dy, y, 0.0), *given)

    for rows, cols in ROWS:

        def make(rows: int = rows, cols: int = cols) -> tuple[Any, ...]:
            return random(rows, cols), random(rows, cols), random(cols), random(cols)

        def saved(make: Callable[[], tuple[Any, ...]] = make) -> tuple[Any, ...]:
            given = make()
            return *given, *ops.batch_norm(given[0], given[2], given[3])[1:]

        def saved_with_relu(make: Callable[[], tuple[Any, ...]] = make) -> tuple[Any, ...]:
            x, dy, gamma, beta = make()
            y, mean, rstd = ops.batch_norm(x, gamma, beta, activation="relu")
            return x, dy, gamma, beta, mean, rstd, y

        size = float(rows * cols)
        yield Case(f"batch-norm {rows}x{cols}", make, forward, of_torch, 1e-4, floats=2 * size)
        yield Case(
            f"batch-norm + relu {rows}x{cols}", make, with_relu, torch_with_relu, 1e-4, floats=2 * size
        )
        yield Case(
            f"batch-norm backward {rows}x{cols}", saved, backward, torch_backward, 1e-4, floats=3 * size
        )
        yield Case(
            f"batch-norm + relu backward {rows}x{cols}",
            *(saved_with_relu, backward_with_relu, torch_backward_with_relu, 1e-4),
            floats=4 * size,
        )


def elapsed(run: Callable[[], Any]) -> float:
    """Microseconds that the device takes."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) * 1e3


def timer(call: Call, sets: list[tuple[Any, ...]], in_graph: bool) -> Callable[[], float]:
    """What takes the time of a round: microseconds of one of many calls, which take the sets in turn."""

    def some(calls: int) -> None:
        for given in itertools.islice(itertools.cycle(sets), calls):
            call(*given)

    first = len(sets) + 2
    once = min(elapsed(lambda: some(first)) for _ in range(3)) / first
    calls = max(1, min(2000, int(ROUND_MS * 1e3 / once)))
    if not in_graph:
        return lambda: elapsed(lambda: some(calls)) / calls
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        some(calls)
    graph.replay()
    return lambda: elapsed(graph.replay) / calls


def candidates(case: Case) -> Iterator[Call]:
    """The product by each kernel that cuBLASLt proposes."""
    n = case.square
    library = gpu_cublaslt.CublasLt(f"libcublasLt.so.{(torch.version.cuda or '').split('.')[0]}")
    memory = torch.empty(WORKSPACE_BYTES, device=DEVICE, dtype=torch.uint8)
    kind = gpu_cublaslt.KINDS[case.peak]
    for _, launch in library.candidates(kind, n, n, n, most=CANDIDATES, workspace=WORKSPACE_BYTES):

        def product(a: Any, b: Any, _: Any, out: Any, launch: gpu_cublaslt.Launch = launch) -> Any:
            stream = torch.cuda.current_stream().cuda_stream
            launch(a.data_ptr(), b.data_ptr(), out.data_ptr(), memory.data_ptr(), stream)
            return out

        yield product


def error_of(call: Call, given: tuple[Any, ...], want: Any) -> float:
    """The largest distance, of the largest number wanted."""
    got = torch.as_tensor(call(*(x.clone() for x in given))).double()
    return float((got - want).abs().max() / want.abs().max())


def measured(case: Case, copy_gb: float) -> dict[str, Any]:
    first = case.make()
    want = case.torch(*(x.clone() for x in first)).double()
    calls = {"fastnn": case.fastnn, "torch": case.torch}
    if case.square:
        calls |= {f"cuBLASLt {i}": call for i, call in enumerate(candidates(case))}
    errors = {name: error_of(call, first, want) for name, call in calls.items()}
    if not max(errors.values()) <= case.tolerance:
        return {"wrong": errors, "tolerance": case.tolerance}
    size = sum(x.nbytes for x in first)
    sets = [first, *(case.make() for _ in range(min(math.ceil(CACHE_BYTES / size), 64) - 1))]
    timers = {name: timer(call, sets, bool(case.peak)) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(ROUNDS):
        for name, round_of in timers.items():
            times[name].append(round_of())
    medians = {name: statistics.median(found) for name, found in times.items()}
    ours, theirs = medians.pop("fastnn"), medians.pop("torch")
    found = {"us": ours, "torch us": theirs, "times torch": theirs / ours, "error": errors["fastnn"]}
    if medians:
        best = min(medians.values())
        found |= {"best of cuBLASLt us": best, "times the best of cuBLASLt": best / ours}
    if case.peak:
        found["TFLOP/s"] = case.flops / ours / 1e6
        found["share of peak"] = found["TFLOP/s"] / TENSOR_TERAFLOPS[case.peak]
    else:
        found["share of a copy"] = 4 * case.floats / ours / 1e3 / copy_gb
    return {**found, "all": times}


def copy_bandwidth() -> float:
    """GB/s, read and written."""
    a, b = random(1 << 28), torch.empty(1 << 28, device=DEVICE)
    round_of = timer(lambda: b.copy_(a), [()], False)
    us = min(round_of() for _ in range(5))
    return 2 * a.nbytes / us / 1e3


def kernels(put: Put) -> None:
    """A result for each case; an error of one is its result."""
    copy_gb = copy_bandwidth()
    put("copy GB/s", copy_gb)
    for case in (*products(), *updates(), *batch_norm()):
        torch.backends.cuda.matmul.allow_tf32 = case.peak == "tf32"
        try:
            found = measured(case, copy_gb)
        except (RuntimeError, TypeError, ValueError) as error:
            found = {"failed": repr(error)}
        put(case.name, found)
        print(case.name, {k: v for k, v in found.items() if k != "all"}, flush=True)
        torch.cuda.empty_cache()
