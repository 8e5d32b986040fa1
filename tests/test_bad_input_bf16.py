"""bfloat16 where it does not belong: gemm alone takes it, for a, b and the result."""

import re

import bad_input
import numpy as np
import pytest
from bad_input import Row, array, replace, t
from native import NATIVE
from test_bad_input import assert_refused

ml_dtypes = pytest.importorskip("ml_dtypes")
BF16 = ml_dtypes.bfloat16


def half(x):
    return x.astype(BF16)


def halves(**changes):
    """gemm's good arguments with a and b in bfloat16, then the changes."""
    return lambda arguments: {**arguments, "a": half(arguments["a"]), "b": half(arguments["b"]), **changes}


def refusals():
    for function in NATIVE:
        for argument in (*bad_input.INPUTS[function], *bad_input.OUTPUTS[function]):
            if function == "gemm" and argument in ("a", "b"):
                continue
            pattern = rf"^{re.escape(function)}\(\).*'{re.escape(argument)}(\[0\])?' must .*float32.*bfloat16"
            yield Row(function, f"{argument} is bfloat16", TypeError, pattern, replace(argument, half))


def g(case, error, pattern, **changes):
    return Row("gemm", case, error, r"^gemm\(\).*" + pattern, halves(**changes))


MIXED = r"'b' has dtype {} and 'a' has {}; pass {}\.astype\(np\.float32\), or both as bfloat16"
ROWS = [
    *refusals(),
    t("gemm", "only a is bfloat16", MIXED.format("float32", "bfloat16", "a"), a=half(array(6, 4))),
    t("gemm", "only b is bfloat16", MIXED.format("bfloat16", "float32", "b"), b=half(array(4, 5))),
    t("gemm", "a bfloat16 result", r"'out_dtype' is bfloat16, but.*float32", out_dtype=BF16, out=None),
    g("bfloat16 bias", TypeError, r"'bias' must have dtype float32, got bfloat16", bias=half(array(5))),
    g("bits", TypeError, r"'a' must.*float32 or bfloat16, got uint16; .*a\.view\(ml_dtypes\.bfloat16\)",
      a=half(array(6, 4)).view(np.uint16)),
    g("float16", TypeError, r"'a' must.*float32 or bfloat16, got float16", a=array(6, 4).astype("f2")),
    g("bits as a result", TypeError, r"'out'.*uint16.*float32 or bfloat16", out=np.zeros((6, 5), np.uint16)),
    g("two wishes", TypeError, r"'out' has dtype float32 and out_dtype is bfloat16", out_dtype=BF16),
    g("a float64 result", TypeError, r"'out_dtype'.*float64", out_dtype=np.float64, out=None),
    g("inner dimensions differ", ValueError, r"'b'.*shape \(5, 4\)", b=half(array(5, 4))),
    g("read-only result", ValueError, r"'out' is read-only", out=np.broadcast_to(half(array(5)), (6, 5))),
    g("misaligned result", ValueError, r"'out'.*not a multiple of 2",
      out=np.zeros(61, np.uint8)[1:].view(BF16).reshape(6, 5)),
    g("a result that is a", ValueError, r"'out' shares memory with 'a'",
      **dict.fromkeys(("a", "out"), half(array(6, 6))), b=half(array(6, 6)), bias=None),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_bad_input(row):
    assert_refused(row)
