"""Training a classifier as the best NumPy loop we know how to write: what fastnn is compared with.

Hidden layers: Linear (no bias), batch-norm and ReLU, or Linear with bias and ReLU; the last: Linear with
bias; softmax cross-entropy or squared error; Adam. The main job is 784-256-128-10 with batch-norm. Everything
is float32, allocated once and written in place. What made it fast, measured on two cores of a Zen 3 EPYC
with NumPy 2.4 (microseconds for a 128x256 array):

* column sums as a vector-matrix product: `np.dot(ones, x, out=...)` 2.4, `np.add.reduce(x, 0)` 6.4;
* ReLU as a float32 mask made once and used twice: 7.7 + 4.9 + 4.9, against 17 for `np.maximum` alone;
* rows gathered by `X.take(rows, 0, buffer, "clip")`: 15, against 21 for `X[rows]` and 47 without "clip";
* all parameters, gradients and Adam moments in four flat arrays: one Adam pass of ten ufunc calls per block,
  with the factors 1-beta and the bias corrections folded into two scalars;
* no gradient of the first layer's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Elements of one Adam pass: five arrays of 64 thousand floats stay in L2 and L3, and ten calls of a ufunc
# cost little beside the work (235 thousand parameters: 346 us; blocks of 8 thousand take 553 us).
ADAM_BLOCK = 65536
# Elements of one block of rows of batch-norm: 512 KB. Passes over blocks instead of over a whole (512, 2048)
# array take 1330 us instead of 1700; smaller arrays are one block.
NORM_BLOCK = 131072


class Adam:
    """Adam on flat arrays, in place: `p -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)`.

    The stored moments are `m / (1 - beta1)` and `v / (1 - beta2)`, which saves two passes a step.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self.beta1, self.beta2 = betas
        self.eps = eps
        self.step_count = 0
        self.m = [np.zeros(size, dtype) for size in sizes]
        self.v = [np.zeros(size, dtype) for size in sizes]
        self._scratch = np.empty(min(max(sizes), ADAM_BLOCK), dtype)

    def moments(self) -> tuple[list[Array], list[Array]]:
        """The first and second moments in their usual scale (copies)."""
        return [m * (1 - self.beta1) for m in self.m], [v * (1 - self.beta2) for v in self.v]

    def step(self, params: Sequence[Array], grads: Sequence[Array], lr: float) -> None:
        """One update of every array of `params`."""
        self.step_count += 1
        root = ((1 - self.beta2) / (1 - self.beta2**self.step_count)) ** 0.5
        rate = lr * (1 - self.beta1) / (1 - self.beta1**self.step_count) / root
        eps = self.eps / root
        for p, g, m, v in zip(params, grads, self.m, self.v, strict=True):
            for start in range(0, p.size, ADAM_BLOCK):
                block = slice(start, start + ADAM_BLOCK)
                self._update(p[block], g[block], m[block], v[block], rate, eps)

    def _update(self, p: Array, g: Array, m: Array, v: Array, rate: float, eps: float) -> None:
        t = self._scratch[: p.size]
        np.multiply(m, self.beta1, out=m)
        np.add(m, g, out=m)
        np.multiply(v, self.beta2, out=v)
        np.multiply(g, g, out=t)
        np.add(v, t, out=v)
        np.sqrt(v, out=t)
        np.add(t, eps, out=t)
        np.divide(m, t, out=t)
        np.multiply(t, rate, out=t)
        np.subtract(p, t, out=p)


class BatchNormReLU:
    """Batch-norm in training mode and ReLU on (rows, c), with buffers for at most `rows` rows."""

    def __init__(
        self, rows: int, c: int, *, eps: float = 1e-5, momentum: float = 0.1, dtype: Any = np.float32
    ) -> None:
        self.eps, self.momentum = eps, momentum
        self.running_mean = np.zeros(c, dtype)
        self.running_var = np.ones(c, dtype)
        self.ones = np.ones(rows, dtype)
        self.mean, self.var, self.rstd, self.scale, self.part = (np.empty(c, dtype) for _ in range(5))
        self.centred, self.y, self.mask = (np.empty((rows, c), dtype) for _ in range(3))
        self.block = max(1, min(rows, NORM_BLOCK // c))
        self.scratch = np.empty((self.block, c), dtype)

    def blocks(self, n: int) -> list[slice]:
        """The rows 0 to n in blocks."""
        return [slice(start, min(start + self.block, n)) for start in range(0, n, self.block)]

    def column_sum(self, x: Array, out: Array, first: bool) -> None:
        """`out = x.sum(0)`, or `out += x.sum(0)` for a block that is not the first."""
        ones = self.ones[: len(x)]
        if first:
            np.dot(ones, x, out=out)
        else:
            np.dot(ones, x, out=self.part)
            np.add(out, self.part, out=out)

    def relu(self, y: Array, mask: Array) -> None:
        """`y = max(y, 0)` in place; `mask` keeps 1.0 where y was positive, for the way back."""
        np.greater(y, 0, out=mask)
        np.multiply(y, mask, out=y)

    def normalize(self, x: Array, gamma: Array, beta: Array) -> Array:
        """`gamma * (x - mean) * rstd + beta`; also moves the running statistics."""
        n, blocks = len(x), self.blocks(len(x))
        self.column_sum(x, self.mean, True)
        self.mean /= n
        for rows in blocks:
            centred, t = self.centred[rows], self.scratch[: rows.stop - rows.start]
            np.subtract(x[rows], self.mean, out=centred)
            np.multiply(centred, centred, out=t)
            self.column_sum(t, self.var, rows.start == 0)
        self.var /= n
        self.running_mean += self.momentum * (self.mean - self.running_mean)
        self.running_var += self.momentum * (self.var * (n / (n - 1)) - self.running_var)
        np.add(self.var, self.eps, out=self.rstd)
        np.sqrt(self.rstd, out=self.rstd)
        np.reciprocal(self.rstd, out=self.rstd)
        np.multiply(gamma, self.rstd, out=self.scale)
        for rows in blocks:
            y = self.y[rows]
            np.multiply(self.centred[rows], self.scale, out=y)
            np.add(y, beta, out=y)
        return self.y[:n]

    def forward(self, x: Array, gamma: Array, beta: Array) -> Array:
        """`relu(batch_norm(x))`."""
        y = self.normalize(x, gamma, beta)
        self.relu(y, self.mask[: len(x)])
        return y

    def backward(self, dy: Array, dgamma: Array, dbeta: Array, dx: Array, *, relu: bool = True) -> Array:
        """Fills dx (may be dy itself), dgamma and dbeta; `relu` multiplies dy by the mask, in place."""
        n, blocks = len(dy), self.blocks(len(dy))
        for rows in blocks:
            part, t = dy[rows], self.scratch[: rows.stop - rows.start]
            if relu:
                np.multiply(part, self.mask[rows], out=part)
            self.column_sum(part, dbeta, rows.start == 0)
            np.multiply(part, self.centred[rows], out=t)
            self.column_sum(t, dgamma, rows.start == 0)
        dgamma *= self.rstd
        slope, shift = dgamma * self.rstd / n, dbeta / n
        for rows in blocks:
            part, t = dx[rows], self.scratch[: rows.stop - rows.start]
            np.multiply(self.centred[rows], slope, out=t)
            np.subtract(dy[rows], t, out=part)
            np.subtract(part, shift, out=part)
            np.multiply(part, self.scale, out=part)
        return dx


class BiasReLU:
    """`relu(x + bias)` on (rows, c), with buffers for at most `rows` rows; used like BatchNormReLU."""

    def __init__(self, rows: int, c: int, *, dtype: Any = np.float32) -> None:
        self.ones = np.ones(rows, dtype)
        self.y, self.mask = (np.empty((rows, c), dtype) for _ in range(2))

    def forward(self, x: Array, bias: Array) -> Array:
        """`relu(x + bias)`."""
        y, mask = self.y[: len(x)], self.mask[: len(x)]
        np.add(x, bias, out=y)
        np.greater(y, 0, out=mask)
        np.multiply(y, mask, out=y)
        return y

    def backward(self, dy: Array, dbias: Array, dx: Array) -> Array:
        """Fills dx (may be dy itself) and dbias."""
        np.multiply(dy, self.mask[: len(dy)], out=dx)
        np.dot(self.ones[: len(dy)], dx, out=dbias)
        return dx


class NumpyMLP:
    """The whole network, its gradients and its optimizer.

    `weights`: arrays (in, out) of the Linear layers, copied. Every layer but the last is followed by
    batch-norm (gamma 1, beta 0 at the start) and ReLU, or, without `batch_norm`, by a bias and ReLU; biases
    are 0 at the start. `batch`: the largest number of rows of a step. `mse`: the loss is the mean squared
    error. `dtype=np.float64` serves the check of the gradients and the expectation of the benchmark.
    """

    def __init__(
        self,
        weights: Sequence[Array],
        *,
        batch: int,
        batch_norm: bool = True,
        mse: bool = False,
        eps: float = 1e-8,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        widths = [w.shape[1] for w in weights]
        vectors = 2 if batch_norm else 1  # gamma and beta, or the bias
        shapes: list[tuple[int, ...]] = []
        for w, width in zip(weights[:-1], widths, strict=False):
            shapes += [w.shape, *[(width,)] * vectors]
        shapes += [weights[-1].shape, (widths[-1],)]
        sizes = [int(np.prod(shape)) for shape in shapes]
        self.flat, self.flat_grad = np.zeros(sum(sizes), dtype), np.zeros(sum(sizes), dtype)
        self.params, self.grads = (
            [part.reshape(shape) for part, shape in zip(np.split(flat, np.cumsum(sizes)[:-1]), shapes)]
            for flat in (self.flat, self.flat_grad)
        )
        self.stride = 1 + vectors  # parameters of a hidden layer
        for index, w in enumerate(weights):
            self.params[self.stride * index][...] = w
            if batch_norm and index < len(weights) - 1:
                self.params[self.stride * index + 1][...] = 1
        self.optimizer = Adam([self.flat.size], eps=eps, dtype=dtype)
        after = BatchNormReLU if batch_norm else BiasReLU
        self.hidden: list[Any] = [after(batch, width, dtype=dtype) for width in widths[:-1]]
        self.products = [np.empty((batch, width), dtype) for width in widths]
        self.dx = [np.empty((batch, width), dtype) for width in widths[:-1]]
        self.x = np.empty((batch, weights[0].shape[0]), dtype)
        self.loss = self.squared_error if mse else self.cross_entropy
        self.rows = np.arange(batch)
        self.ones = np.ones(batch, dtype)

    def _layer(self, arrays: list[Array], index: int) -> list[Array]:
        """The weight and the vectors of a hidden layer, of `params` or `grads`."""
        return arrays[self.stride * index : self.stride * (index + 1)]

    def forward(self, x: Array) -> Array:
        """The logits in training mode, in memory that the next call uses again."""
        n, h = len(x), x
        for index, after in enumerate(self.hidden):
            w, *vectors = self._layer(self.params, index)
            np.matmul(h, w, out=self.products[index][:n])
            h = after.forward(self.products[index][:n], *vectors)
        logits = self.products[-1][:n]
        np.matmul(h, self.params[-2], out=logits)
        logits += self.params[-1]
        return logits

    def squared_error(self, pred: Array, target: Array) -> float:
        """Mean squared error over rows and outputs; turns `pred` into its gradient in place."""
        pred -= target
        flat = pred.reshape(-1)
        value = float(np.dot(flat, flat)) / flat.size
        pred *= 2 / flat.size
        return value

    def cross_entropy(self, logits: Array, labels: Array) -> float:
        """Mean softmax cross-entropy; turns `logits` into its gradient in place."""
        n = len(logits)
        rows = self.rows[:n]
        logits -= np.maximum.reduce(logits, 1, keepdims=True)
        picked = logits[rows, labels]
        np.exp(logits, out=logits)
        total = np.add.reduce(logits, 1, keepdims=True)
        value = float(np.add.reduce(np.log(total[:, 0]) - picked)) / n
        total *= n
        np.divide(logits, total, out=logits)
        logits[rows, labels] -= 1 / n
        return value

    def backward(self, x: Array, dlogits: Array) -> None:
        """Fills every gradient; the gradient of x is never computed."""
        n, dy = len(x), dlogits
        np.matmul(self.hidden[-1].y[:n].T, dy, out=self.grads[-2])
        np.dot(self.ones[:n], dy, out=self.grads[-1])
        w = self.params[-2]
        for index in range(len(self.hidden) - 1, -1, -1):
            dx = self.dx[index][:n]
            np.matmul(dy, w.T, out=dx)
            dw, *vectors = self._layer(self.grads, index)
            dy = self.hidden[index].backward(dx, *vectors, dx)
            below = self.hidden[index - 1].y[:n] if index else x
            np.matmul(below.T, dy, out=dw)
            w = self._layer(self.params, index)[0]

    def step(self, x: Array, y: Array, lr: float) -> float:
        """Forward, loss, backward and Adam; returns the loss before the update."""
        logits = self.forward(x)
        value = self.loss(logits, y)
        self.backward(x, logits)
        self.optimizer.step([self.flat], [self.flat_grad], lr)
        return value

    def gather_step(self, X: Array, Y: Array, rows: Array, lr: float) -> float:
        """A step on the given rows of X and Y."""
        x = self.x[: len(rows)]
        X.take(rows, 0, x, "clip")
        return self.step(x, Y[rows], lr)

    def predict(self, X: Array) -> Array:
        """The logits of the main job's network in evaluation mode (running statistics), a new array."""
        h = X
        for index, norm in enumerate(self.hidden):
            w, gamma, beta = self._layer(self.params, index)
            scale = gamma / np.sqrt(norm.running_var + norm.eps)
            h = np.maximum((h @ w - norm.running_mean) * scale + beta, 0)
        return h @ self.params[-2] + self.params[-1]

    def accuracy(self, X: Array, Y: Array) -> float:
        """The share of rows of X whose largest logit is the label's."""
        return float(np.mean(self.predict(X).argmax(1) == Y))
