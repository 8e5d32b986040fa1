"""Bad input to recalibrate_bn and batch_norm_steps: the exception, and a text with argument and cure."""

import numpy as np
import pytest
from fastnn import nn, ops


def x(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def linear():
    return nn.Linear(3, 2, rng=0)


def norm():
    return nn.BatchNorm1d(3)


class Twice(nn.Module):
    """A batch-norm used twice: its input is no single population."""

    def __init__(self):
        self.norm = norm()

    def forward(self, x):
        return self.norm(self.norm(x))

    def backward(self, dy, *, accumulate=False, input_grad=True):
        raise AssertionError("recalibrating goes forward only")


def steps(**changes):
    return ops.batch_norm_steps(**{"x": x(4, 3), "gamma": x(3), "beta": x(3), **changes})


masked = np.ma.masked_array(np.ones((4, 3)), mask=False)
nan = float("nan")

ROWS = [
    # ---- recalibrate_bn
    (
        lambda: nn.recalibrate_bn([norm()], x(4, 3)),
        TypeError,
        r"recalibrate_bn: model must be an nn\.Module, got list",
    ),
    (
        lambda: nn.recalibrate_bn(linear(), x(4, 3)),
        ValueError,
        r"recalibrate_bn: the model has no BatchNorm1d",
    ),
    (
        lambda: nn.recalibrate_bn(norm(), [[1.0]]),
        TypeError,
        r"recalibrate_bn: X must be a NumPy array, got list",
    ),
    (
        lambda: nn.recalibrate_bn(norm(), x(1, 3)),
        ValueError,
        r"X must have at least two rows, got shape \(1, 3\)",
    ),
    (lambda: nn.recalibrate_bn(norm(), np.float32(1)), TypeError, r"recalibrate_bn: X must be a NumPy array"),
    (lambda: nn.recalibrate_bn(norm(), x()), ValueError, r"recalibrate_bn: X must have at least two rows"),
    (lambda: nn.recalibrate_bn(norm(), x(4, 2)), ValueError, r"BatchNorm1d: x must have shape \(\.\.\., 3\)"),
    (
        lambda: nn.recalibrate_bn(norm(), x(4, 3, dtype=complex)),
        TypeError,
        r"recalibrate_bn: X must hold real",
    ),
    (lambda: nn.recalibrate_bn(norm(), masked), TypeError, r"recalibrate_bn: X is a masked array"),
    (lambda: nn.recalibrate_bn(norm(), nan * x(4, 3)), ValueError, r"the input of 'the layer' is not finite"),
    (
        lambda: nn.recalibrate_bn(norm(), x(4, 3), batch_size=0),
        ValueError,
        r"batch_size must be at least 1, got 0",
    ),
    (
        lambda: nn.recalibrate_bn(norm(), x(4, 3), batch_size=2.0),
        TypeError,
        r"batch_size must be a whole number",
    ),
    (lambda: nn.recalibrate_bn(norm(), x(4, 3), 2), TypeError, r"takes 2 positional"),
    (lambda: nn.recalibrate_bn(Twice(), x(4, 3)), ValueError, r"recalibrate_bn: 'norm' is called 2 times"),
    # ---- batch_norm_steps
    (lambda: steps(x=[[1.0]]), TypeError, r"batch_norm_steps: x must be a NumPy array, got list"),
    (lambda: steps(x=None), TypeError, r"batch_norm_steps: x must be a NumPy array, got NoneType"),
    (
        lambda: steps(x=x(4, 3, dtype=int)),
        TypeError,
        r"batch_norm_steps: x must be float32 or float64, got dtype int64",
    ),
    (
        lambda: steps(x=x(4, 3, dtype=">f4")),
        TypeError,
        r"batch_norm_steps: x must be float32 or float64, got dtype >f4",
    ),
    (lambda: steps(x=masked), TypeError, r"batch_norm_steps: x is a masked array"),
    (
        lambda: steps(x=x(3)),
        ValueError,
        r"batch_norm_steps: x must have shape \(\.\.\., c\) and at least one row",
    ),
    (
        lambda: steps(x=x(0, 3)),
        ValueError,
        r"batch_norm_steps: x must have .* at least one row, got \(0, 3\)",
    ),
    (
        lambda: steps(x=x(4, 3, dtype=float)),
        TypeError,
        r"gamma must have the dtype of x, float64, got float32",
    ),
    (lambda: steps(gamma=x(4)), ValueError, r"batch_norm_steps: gamma must have shape \(3,\), got \(4,\)"),
    (lambda: steps(gamma=None), TypeError, r"batch_norm_steps: gamma must be a NumPy array, got NoneType"),
    (lambda: steps(beta=x(1, 3)), ValueError, r"batch_norm_steps: beta must have shape \(3,\), got \(1, 3\)"),
    (lambda: steps(beta=1.0), TypeError, r"batch_norm_steps: beta must be a NumPy array, got float"),
    (
        lambda: steps(dy=x(3, 4)),
        ValueError,
        r"batch_norm_steps: dy must have the shape of x, \(4, 3\), got \(3, 4\)",
    ),
    (lambda: steps(dy=x(4, 3, dtype=float)), TypeError, r"batch_norm_steps: dy must have the dtype of x"),
    (lambda: steps(eps=-1.0), ValueError, r"batch_norm_steps: eps must be at least 0 and finite, got -1"),
    (lambda: steps(eps=nan), ValueError, r"batch_norm_steps: eps must be at least 0"),
    (lambda: steps(eps="small"), TypeError, r"batch_norm_steps: eps must be a number, got 'small'"),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), ROWS, ids=[f"{i}-{row[2][:40]}" for i, row in enumerate(ROWS)]
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert type(caught.value) is error
