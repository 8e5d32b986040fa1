"""Types of the compiled module. Only `ops` and `_runtime` import it; its own docstrings hold the formulas."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias, overload

import numpy as np
import numpy.typing as npt

class _DLPack(Protocol):
    """An array of any library, such as a PyTorch tensor."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __dlpack_device__(self) -> Any: ...

_New: TypeAlias = npt.NDArray[np.float32]  # what comes back without `out`, of arrays of the host
_F32: TypeAlias = _New | _DLPack
_BF16: TypeAlias = npt.NDArray[Any] | _DLPack  # ml_dtypes, whose bfloat16 this is, need not be installed
_Arrays: TypeAlias = _F32 | Sequence[_F32]
_Kind: TypeAlias = Literal[
    "relu",
    "leaky_relu",
    "sigmoid",
    "tanh",
    "gelu",
    "gelu_tanh",
    "silu",
    "elu",
    "selu",
    "softplus",
]

@overload
def gemm(
    a: _F32,
    b: _F32,
    *,
    out: _F32 | None = None,
    bias: _F32 | None = None,
    activation: _Kind | None = None,
    trans_a: bool = False,
    trans_b: bool = False,
    alpha: float = 1.0,
    beta: float = 0.0,
    out_dtype: npt.DTypeLike | None = None,
    tf32: bool = False,
) -> _New: ...
@overload
def gemm(
    a: _BF16,
    b: _BF16,
    *,
    out: _BF16 | _F32 | None = None,
    bias: _F32 | None = None,
    activation: _Kind | None = None,
    trans_a: bool = False,
    trans_b: bool = False,
    alpha: float = 1.0,
    beta: float = 0.0,
    out_dtype: npt.DTypeLike | None = None,
    tf32: bool = False,
) -> npt.NDArray[Any]: ...
def linear_backward(
    dy: _F32,
    x: _F32,
    w: _F32,
    *,
    need_dx: bool = True,
    need_db: bool = True,
    out: tuple[_F32 | None, _F32 | None, _F32 | None] | None = None,
    accumulate: bool = False,
) -> tuple[_New | None, _New, _New | None]: ...
def linear_bf16(x: _F32, w: _F32, *, bias: _F32 | None = None, activation: _Kind | None = None) -> _New: ...
def linear_backward_bf16(
    dy: _F32,
    x: _F32,
    w: _F32,
    *,
    need_dx: bool = True,
    need_db: bool = True,
    out: tuple[_F32 | None, _F32 | None, _F32 | None] | None = None,
    accumulate: bool = False,
) -> tuple[_New | None, _New, _New | None]: ...
def activation(x: _F32, kind: _Kind, *, alpha: float | None = None, out: _F32 | None = None) -> _New: ...
def activation_backward(
    dy: _F32,
    x: _F32,
    kind: _Kind,
    *,
    alpha: float | None = None,
    y: _F32 | None = None,
    out: _F32 | None = None,
) -> _New: ...
def add(a: _F32, b: _F32) -> _New: ...
def dropout(x: _F32, p: float, *, seed: int, step: int, out: _F32 | None = None) -> _New: ...
def column_moments(x: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]: ...
def scale_columns(
    x: npt.NDArray[Any],
    shift: npt.NDArray[np.float64] | _F32 | None,
    scale: _F32,
    offset: _F32 | None,
    *,
    out: _New | None = None,
) -> _New: ...
def batch_norm(
    x: _F32,
    gamma: _F32,
    beta: _F32,
    running_mean: _F32 | None = None,
    running_var: _F32 | None = None,
    *,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: _Kind | None = None,
    out: _F32 | None = None,
    unbiased: bool = True,
) -> tuple[_New, _New, _New]: ...
def debiased_weight(momentum: float, updates: float) -> float: ...
def batch_norm_backward(
    dy: _F32,
    x: _F32,
    gamma: _F32,
    mean: _F32,
    rstd: _F32,
    *,
    activation: _Kind | None = None,
    y: _F32 | None = None,
    out: tuple[_F32 | None, _F32 | None, _F32 | None] | None = None,
    accumulate: bool = False,
) -> tuple[_New, _New, _New]: ...
def softmax_cross_entropy(
    logits: _F32,
    labels: npt.NDArray[Any] | _DLPack,
    *,
    sample_weight: _F32 | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
) -> tuple[float, _New]: ...
def sigmoid_cross_entropy(
    logits: _F32, targets: _F32, *, sample_weight: _F32 | None = None
) -> tuple[float, _New]: ...
def mse(pred: _F32, target: _F32, *, sample_weight: _F32 | None = None) -> tuple[float, _New]: ...
def quadratic_cost(pred: _F32, target: _F32, *, sample_weight: _F32 | None = None) -> tuple[float, _New]: ...
def huber(
    pred: _F32, target: _F32, *, delta: float = 1.0, sample_weight: _F32 | None = None
) -> tuple[float, _New]: ...
def sgd_(param: _Arrays, grad: _Arrays, *, lr: float) -> None: ...
def momentum_(
    param: _Arrays,
    grad: _Arrays,
    velocity: _Arrays,
    *,
    lr: float,
    momentum: float = 0.9,
    nesterov: bool = False,
    style: Literal["buffer", "velocity"] = "buffer",
) -> None: ...
def rmsprop_(
    param: _Arrays, grad: _Arrays, square_avg: _Arrays, *, lr: float, rho: float = 0.9, eps: float = 1e-8
) -> None: ...
def adagrad_(
    param: _Arrays, grad: _Arrays, square_sum: _Arrays, *, lr: float, eps: float = 1e-10
) -> None: ...
def adam_(
    param: _Arrays,
    grad: _Arrays,
    m: _Arrays,
    v: _Arrays,
    *,
    step: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> None: ...

class Update:
    def __init__(
        self,
        rule: str,
        groups: list[tuple[Any, ...]],
        clip: str,
        limit: float,
        floor: float,
        refuse: bool,
        on_device: bool,
    ) -> None: ...

def run_update(update: Update, numbers: memoryview, step: int, place: object = None) -> int: ...

class Program:
    @overload
    def __init__(
        self,
        buffers: list[tuple[int, int]],
        ops: list[tuple[Any, ...]],
        chains: bool,
        loss: int,
        update: Update | None,
        kernels: object = None,
        tf32: bool = False,
    ) -> None: ...
    @overload
    def __init__(
        self, buffers: list[tuple[int, int]], ops: list[tuple[Any, ...]], chains: bool, pred: int
    ) -> None: ...
    def least_rows(self) -> int: ...
    def arena_bytes(self, n: int) -> int: ...
    def graphs_made(self) -> int: ...
    def time_parts(self, stream: int) -> list[float]: ...
    def lines(self) -> list[tuple[int, int, int, float, float, float]]: ...
    def update_work(self) -> tuple[float, float]: ...
    def time_regions(self, repeats: int) -> list[float]: ...

def shuffled(n: int, key: int) -> npt.NDArray[np.int64]: ...
def take_rows(
    x: npt.NDArray[Any], y: npt.NDArray[Any], order: npt.NDArray[np.int64], first: int, last: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]: ...
def packed_floats(k: int, n: int) -> int: ...
def run_steps(
    program: Program,
    x: npt.NDArray[Any],
    target: npt.NDArray[Any],
    *,
    sample_weight: npt.NDArray[np.float32] | None = None,
    order: npt.NDArray[np.int64] | None = None,
    bounds: npt.NDArray[np.int64],
    first: int = 0,
    last: int,
    seconds: float | None = None,
    numbers: npt.NDArray[np.float64],
    number: int,
    forwards: list[int],
    sums: npt.NDArray[np.float64],
    result: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64] | None = None,
    pred: npt.NDArray[np.float32] | None = None,
    keep_refused: bool = False,
) -> None: ...
def run_steps_on_device(
    program: Program,
    x: Any,
    target: Any,
    *,
    sample_weight: Any = None,
    order: npt.NDArray[np.int64] | None = None,
    bounds: npt.NDArray[np.int64],
    first: int = 0,
    last: int,
    numbers: npt.NDArray[np.float64],
    number: int,
    forwards: list[int],
    sums: npt.NDArray[np.float64],
    result: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64] | None = None,
    pred: npt.NDArray[np.float32] | None = None,
    keep_refused: bool = False,
    stream: int,
) -> None: ...
def queue_step_on_device(
    program: Program,
    x: Any,
    target: Any,
    *,
    sample_weight: Any = None,
    numbers: npt.NDArray[np.float64],
    number: int,
    forwards: list[int],
    stream: int,
) -> bool: ...
def settle_on_device(
    program: Program,
    values: npt.NDArray[np.float64],
    result: npt.NDArray[np.float64],
    *,
    stream: int,
) -> None: ...
def run_step(
    program: Program,
    x: npt.NDArray[Any],
    target: npt.NDArray[Any],
    sample_weight: npt.NDArray[np.float32] | None,
    numbers: npt.NDArray[np.float64],
    number: int,
    forwards: list[int],
    result: npt.NDArray[np.float64],
) -> float | None: ...
def score_hits(
    pred: npt.NDArray[np.float32],
    target: npt.NDArray[Any],
    sums: npt.NDArray[np.float64],
    *,
    sample_weight: npt.NDArray[np.float32] | None = None,
    ignore_index: int | None = None,
) -> None: ...
def score_sides(
    pred: npt.NDArray[np.float32],
    target: npt.NDArray[np.float32],
    sums: npt.NDArray[np.float64],
    *,
    sample_weight: npt.NDArray[np.float32] | None = None,
) -> None: ...
def score_squares(
    pred: npt.NDArray[np.float32],
    target: npt.NDArray[np.float32],
    sums: npt.NDArray[np.float64],
    *,
    sample_weight: npt.NDArray[np.float32] | None = None,
) -> None: ...
def stop_steps(stop: bool) -> None: ...
def run_forward(
    program: Program, x: npt.NDArray[Any], pred: npt.NDArray[np.float32], batch_size: int
) -> None: ...
def isas() -> list[str]: ...
def set_isa(name: str) -> None: ...
def get_isa() -> str: ...
def isa_macros() -> list[str]: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def build_info() -> dict[str, Any]: ...
def stay_on_this_thread() -> None: ...
def check_cuda(kernels: object) -> None: ...
def workspace_bytes() -> int: ...
def limit_fma(seconds: float = 0.05, bfloat16: bool = False) -> float: ...
def limit_stream(kind: Literal["read", "copy", "update"], floats: int, seconds: float = 0.05) -> float: ...
def empty_call() -> None: ...
def fork_join(repeats: int) -> float: ...
