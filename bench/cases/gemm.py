"""GEMM: squares, layers with epilogue, dW and dX, both at once, few outputs or rows, bfloat16, the call."""

from __future__ import annotations

import numpy as np

from cases.case import Arrays, Case, Stream, random_array

FEW = 8
LARGE = 1 << 18  # bytes: more than a core keeps next to it


def gemm_case(
    m: int,
    k: int,
    n: int,
    note: str = "",
    *,
    full_only: bool = True,
    group: str = "gemm",
    epilogue: bool = False,
    trans_a: bool = False,
    trans_b: bool = False,
) -> Case:
    """`op(a) @ op(b)`, m x k by k x n; with `epilogue` also bias and ReLU.

    With few rows, or sums of few terms, the bytes dominate: of b, or of c.
    """
    size = 4.0 * (m * k + k * n + m * n)
    stream = None
    if min(m, k) <= FEW and size > LARGE:
        yardstick = size if k <= FEW else None
        stream = Stream("copy", size - 4.0 * m * n, 4.0 * m * n, footprint=size, yardstick=yardstick)

    def arrays(rng: np.random.Generator) -> Arrays:
        inputs = {
            "a": random_array(rng, *((k, m) if trans_a else (m, k))),
            "b": random_array(rng, *((n, k) if trans_b else (k, n))),
        }
        return {**inputs, "bias": random_array(rng, n)} if epilogue else inputs

    def expected(x: Arrays) -> Arrays:
        c = (x["a"].T if trans_a else x["a"]) @ (x["b"].T if trans_b else x["b"])
        return {"c": np.maximum(c + x["bias"], 0) if epilogue else c}

    return Case(
        name=f"GEMM {m}x{k}x{n}{note}",
        group=group,
        op="gemm",
        arrays=arrays,
        expected=expected,
        # K * eps of the largest element holds for any order of summation.
        tolerance=max(k, 16) * 2.0**-23,
        sizes={"trans_a": trans_a, "trans_b": trans_b, "m": m, "n": n},
        flops=2.0 * m * k * n,
        stream=stream,
        bytes=size,
        full_only=full_only,
    )


def linear_backward_case(rows: int, inputs: int, outputs: int) -> Case:
    """dx, dw and db of a Linear layer: two products that read dy, and its sums down the columns."""

    def arrays(rng: np.random.Generator) -> Arrays:
        shapes = {"dy": (rows, outputs), "x": (rows, inputs), "w": (inputs, outputs)}
        return {name: random_array(rng, *shape) for name, shape in shapes.items()}

    return Case(
        name=f"linear backward {rows}x{inputs}x{outputs}",
        group="gemm",
        op="linear_backward",
        arrays=arrays,
        expected=lambda v: {"dx": v["dy"] @ v["w"].T, "dw": v["x"].T @ v["dy"], "db": v["dy"].sum(0)},
        tolerance=max(rows, outputs, 16) * 2.0**-23,
        flops=4.0 * rows * inputs * outputs + rows * outputs,
        bytes=4.0 * (rows * (2 * inputs + outputs) + 2 * inputs * outputs + outputs),
        full_only=True,
    )


def bfloat16_case(m: int, k: int, n: int) -> Case:
    """`a @ b` in bfloat16; the arrays are float32 until each library converts them."""

    def arrays(rng: np.random.Generator) -> Arrays:
        inputs = {"a": random_array(rng, m, k), "b": random_array(rng, k, n)}
        for x in inputs.values():
            x.view(np.uint32)[...] &= 0xFFFF0000  # what bfloat16 holds
        return inputs

    return Case(
        name=f"GEMM bf16 {m}x{k}x{n}",
        group="gemm",
        op="gemm_bf16",
        arrays=arrays,
        expected=lambda x: {"c": x["a"] @ x["b"]},
        tolerance=2.0**-8 + max(k, 16) * 2.0**-23,
        sizes={"m": m, "n": n},
        flops=2.0 * m * k * n,
        bytes=2.0 * (m * k + k * n + m * n),
        bfloat16=True,
        full_only=True,
    )


CASES = [
    gemm_case(16, 16, 16),
    gemm_case(32, 32, 32),
    gemm_case(64, 64, 64),
    gemm_case(128, 128, 128),
    gemm_case(256, 256, 256),
    gemm_case(512, 512, 512, full_only=False),
    gemm_case(1024, 1024, 1024, full_only=False),
    gemm_case(2048, 2048, 2048),
    gemm_case(1024, 784, 256),
    gemm_case(784, 1024, 256, " (dW)", trans_a=True),
    gemm_case(1024, 256, 784, " (dX)", trans_b=True),
    gemm_case(32, 64, 32),
    gemm_case(64, 32, 32, " (dW)", trans_a=True),
    gemm_case(32, 32, 64, " (dX)", trans_b=True),
    gemm_case(32, 64, 64, " + bias + ReLU", epilogue=True),
    gemm_case(128, 784, 512, " + bias + ReLU", epilogue=True, full_only=False),
    gemm_case(512, 2048, 2048, " + bias + ReLU", epilogue=True),
    gemm_case(8, 8, 8, " (the call)", group="call", full_only=False),
    gemm_case(128, 784, 256, " (first layer)", full_only=False),
    gemm_case(784, 128, 256, " (its dW)", trans_a=True, full_only=False),
    gemm_case(128, 128, 256, " (second layer's dX)", trans_b=True, full_only=False),
    gemm_case(128, 128, 10, " (last layer)", full_only=False),
    gemm_case(128, 128, 10, " (its dW)", trans_a=True),
    gemm_case(128, 10, 128, " (its dX)", trans_b=True),
    gemm_case(64, 784, 128),
    gemm_case(784, 64, 128, " (dW)", trans_a=True),
    gemm_case(64, 128, 784, " (dX)", trans_b=True),
    gemm_case(128, 784, 512),
    gemm_case(784, 128, 512, " (dW)", trans_a=True),
    gemm_case(128, 512, 784, " (dX)", trans_b=True),
    gemm_case(128, 512, 512, " (dX)", trans_b=True),
    gemm_case(2048, 512, 2048, " (dW)", trans_a=True),
    gemm_case(512, 2048, 2048, " (dX)", trans_b=True),
    gemm_case(64, 64, 1),
    gemm_case(128, 512, 10),
    gemm_case(512, 2048, 10),
    gemm_case(4096, 256, 15),
    gemm_case(1, 784, 128),
    gemm_case(1, 784, 512),
    gemm_case(784, 1, 512, " (dW)", trans_a=True),
    gemm_case(1, 512, 784, " (dX)", trans_b=True),
    gemm_case(8, 1024, 1024),
    gemm_case(1024, 8, 1024, " (dW)", trans_a=True),
    gemm_case(8, 1024, 1024, " (dX)", trans_b=True),
    linear_backward_case(32, 64, 64),
    linear_backward_case(128, 784, 256),
    bfloat16_case(64, 64, 64),
    bfloat16_case(128, 128, 128),
    bfloat16_case(1024, 1024, 1024),
]
