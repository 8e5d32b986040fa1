"""GEMM: squares, a layer with its epilogue, the call itself, and the shapes of the main job's network."""

from __future__ import annotations

import numpy as np

from cases.case import Arrays, Case, random_array


def gemm_case(
    m: int,
    k: int,
    n: int,
    note: str = "",
    *,
    epilogue: bool = False,
    trans_a: bool = False,
    trans_b: bool = False,
) -> Case:
    """`op(a) @ op(b)`, m x k by k x n; with `epilogue` also bias and ReLU."""

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
        group="gemm",
        op="gemm",
        arrays=arrays,
        expected=expected,
        # K * eps of the largest element holds for any order of summation.
        tolerance=max(k, 16) * 2.0**-23,
        sizes={"trans_a": trans_a, "trans_b": trans_b, "m": m, "n": n},
        flops=2.0 * m * k * n,
    )


CASES = [
    gemm_case(512, 512, 512),
    gemm_case(1024, 1024, 1024),
    gemm_case(128, 784, 512, " + bias + ReLU", epilogue=True),
    gemm_case(8, 8, 8, " (the call)"),
    gemm_case(128, 784, 256, " (first layer)"),
    gemm_case(784, 128, 256, " (its dW)", trans_a=True),
    gemm_case(128, 128, 256, " (second layer's dX)", trans_b=True),
    gemm_case(128, 128, 10, " (last layer)"),
]
