"""Arrays larger than the near caches: every other call goes the other way through them, to the same end."""

import fastnn
import numpy as np
import pytest
from fastnn import nn, ops, optim

pytestmark = pytest.mark.usefixtures("restore_runtime")
FLOATS = 450_000  # a thread: more than core/team.h's bound


@pytest.fixture(params=[1, 2, 3, 8])
def size(request):
    fastnn.set_num_threads(request.param)
    return FLOATS * request.param


def whole_numbers(n, seed=0):
    return np.random.default_rng(seed).integers(-99, 99, n).astype(np.float32)


def test_activations(size):
    x, dy = whole_numbers(size), whole_numbers(size, 1)
    for _ in range(4):
        out = np.full(size, np.nan, np.float32)
        assert np.array_equal(ops.activation(x, "relu", out=out), np.maximum(x, 0))
        out = np.full(size, np.nan, np.float32)
        assert np.array_equal(ops.activation_backward(dy, x, "relu", out=out), dy * (x > 0))


@pytest.mark.parametrize("shares", [[1.0], [0.001, 0.7, 0.299], [0.0] * 9 + [0.01] * 3 + [0.97]], ids=len)
def test_updates(size, shares):
    """Of one array, of a few, and of many small ones in front of a large one."""
    grads = [whole_numbers(int(share * size), i) for i, share in enumerate(shares)]
    params = [np.zeros_like(grad) for grad in grads]
    for call in range(1, 5):
        ops.sgd_(params, grads, lr=1.0)
        assert all(np.array_equal(param, -call * grad) for param, grad in zip(params, grads, strict=True))
    held = [nn.Parameter(np.zeros_like(grad)) for grad in grads if len(grad)]
    optimizer = optim.SGD(held, lr=1.0)
    for call in range(1, 5):
        for parameter, grad in zip(held, filter(len, grads), strict=True):
            parameter.grad[...] = grad
        optimizer.step()
        assert all(np.array_equal(p.data, -call * g) for p, g in zip(held, filter(len, grads), strict=True))


def test_batch_norm():
    """One thread goes to and fro here, eight do not."""
    x, dy = whole_numbers(1100 * 1024).reshape(1100, 1024), whole_numbers(1100 * 1024, 1).reshape(1100, 1024)
    ones = np.ones(1024, np.float32)
    results = []
    for threads in (1, 8):
        fastnn.set_num_threads(threads)
        y, mean, rstd = ops.batch_norm(x, ones, ones)
        results.append((y, mean, rstd, *ops.batch_norm_backward(dy, x, ones, mean, rstd)))
    assert all(np.array_equal(one, eight) for one, eight in zip(*results, strict=True))
    assert np.abs(results[0][0].mean(axis=0) - 1).max() < 1e-5
