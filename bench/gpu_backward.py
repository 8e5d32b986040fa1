"""What the backward of a layer does beside its products (the gradient behind ReLU, that of the bias), against
the products alone and against PyTorch's kernels in a graph.

fastnn's times are those of `Trainer.explain`: an operation by itself, again and again in one graph.
"""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

import fastnn
import torch
from fastnn import losses, nn, optim

import gpu_kernels
from gpu_results import Put

SIZES = {"bfloat16": (2048, 4096), "tf32": (2048,), "float32": (2048,)}  # rows, inputs and outputs alike


def parts(text: str) -> dict[str, float]:
    """The operations of a table of `Trainer.explain` on the device, and their microseconds.

    >>> parts('''8 rows: 2 operations and the update in one graph, 1 KB, CUDA
    ... operation                               kflop  KB  measured us
    ... begin                                                      1.2
    ... linear_input 4x4 + activation_backward    256   0          3.5
    ... end                                                        0.9
    ... a step: 20.0 us, of 30 queued together''')
    {'begin': 1.2, 'linear_input 4x4 + activation_backward': 3.5, 'end': 0.9}
    """
    lines = (re.split(r"\s\s+", line) for line in text.splitlines()[2:-1])
    return {line[0]: float(line[-1]) for line in lines}


def of_fastnn(n: int, precision: str, *, beside: bool) -> dict[str, float]:
    """Microseconds of the two products behind the last layer, with what is beside them or alone."""
    between = [nn.ReLU()] if beside else []
    model = nn.Sequential(nn.Linear(n, n, bias=beside), *between, nn.Linear(n, n, bias=beside), seed=0)
    adam = optim.Adam(model.parameters())
    trainer = fastnn.Trainer(model, losses.MSELoss(), adam, precision=precision, device="cuda")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        trainer.explain(n)
    found = parts(printed.getvalue())
    return {
        product: next(took for name, took in found.items() if name.startswith(product))
        for product in ("linear_input", "linear_weight")
    }


def of_torch(n: int, precision: str) -> dict[str, float]:
    """The same with what is beside them, of PyTorch."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    dy, x, w, y = (gpu_kernels.random(n, n, dtype=dtype) for _ in range(4))

    def of_input(dy: Any, x: Any, w: Any, y: Any) -> Any:
        return torch.ops.aten.threshold_backward(torch.mm(dy, w.t()), y, 0.0)

    def of_weight(dy: Any, x: Any, w: Any, y: Any) -> Any:
        return torch.mm(x.t(), dy), dy.sum(0)

    given = [(dy, x, w, y)]
    return {
        "linear_input": gpu_kernels.timer(of_input, given, in_graph=True)(),
        "linear_weight": gpu_kernels.timer(of_weight, given, in_graph=True)(),
    }


def backward(put: Put) -> None:
    """By precision and size: each product with what is beside it, over that alone, and PyTorch's over it."""
    for precision, sizes in SIZES.items():
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        for n in sizes:
            with_more, alone = (of_fastnn(n, precision, beside=beside) for beside in (True, False))
            theirs = of_torch(n, precision)
            found = {
                product: {
                    "us": us,
                    "torch us": theirs[product],
                    "over the product alone": us / alone[product],
                    "times torch": theirs[product] / us,
                }
                for product, us in with_more.items()
            }
            put(f"{precision} {n}", found)
            print(f"backward of a layer, {precision} {n}: {found}", flush=True)
