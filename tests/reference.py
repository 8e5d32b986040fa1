"""What every operation means: float64 NumPy, slow and obvious. Imports NumPy and math, nothing else.

Results are float64, computed from the exact values of the float32 inputs: a test compares a kernel with the
truth, not with another rounding of it. The last part differs: `gemm_bits` gives the float32 *bits* that
docs/numerics.md promises, one correctly rounded operation after another.
"""

import math

import numpy as np

F64 = np.float64
K_BLOCK = 512  # terms of one chain of fused multiply-adds; docs/numerics.md


def f64(*arrays):
    """Exact float64 copies; None stays None."""
    copies = tuple(None if a is None else np.array(a, dtype=F64) for a in arrays)
    return copies[0] if len(copies) == 1 else copies


def coefficient(x):
    """A number of the rule as kernels use it: formed in float64, rounded to float32 once."""
    return F64(np.float32(x))


# ---- matrix product ----------------------------------------------------------------------------------------


def gemm(
    a,
    b,
    *,
    out=None,
    bias=None,
    activation=None,
    trans_a=False,
    trans_b=False,
    alpha=1.0,
    beta=0.0,
    absolute=False,
):
    """activation(alpha * op(a) @ op(b) + beta * out + bias); `absolute` takes every term by its magnitude."""
    a, b, out, bias = f64(a, b, out, bias)
    alpha, beta = F64(np.float32(alpha)), F64(np.float32(beta))
    if absolute:
        a, b, alpha, beta = np.abs(a), np.abs(b), abs(alpha), abs(beta)
        out = None if out is None else np.abs(out)
        bias = None if bias is None else np.abs(bias)
    c = alpha * ((a.T if trans_a else a) @ (b.T if trans_b else b))
    if beta != 0.0:
        c = c + beta * out
    if bias is not None:
        c = c + bias
    return c if activation is None or absolute else ACTIVATIONS[activation][0](c)


def linear_backward(dy, x, w):
    """(dx, dw, db) of y = x @ w + b."""
    dy, x, w = f64(dy, x, w)
    return dy @ w.T, x.T @ dy, dy.sum(0)


def bfloat16(x):
    """The nearest number of 8 significant bits, to even in the middle; from 2^128 on infinity."""
    x = f64(x)
    step = np.ldexp(1.0, np.maximum(np.frexp(x)[1], -125) - 8)
    nearest = np.rint(x / step) * step
    return np.where(np.abs(nearest) < 2.0**128, nearest, np.copysign(np.inf, x))


def linear_bf16(x, w, *, bias=None, activation=None):
    """activation(x @ w + bias) of the rounded x and w."""
    return gemm(bfloat16(x), bfloat16(w), bias=bias, activation=activation)


def linear_backward_bf16(dy, x, w):
    """(dx, dw, db) of products of the rounded dy, x and w; db of dy as it is."""
    dx, dw, _ = linear_backward(bfloat16(dy), bfloat16(x), bfloat16(w))
    return dx, dw, f64(dy).sum(0)


# ---- activation --------------------------------------------------------------------------------------------


def relu(x):
    """max(x, 0); NaN stays NaN."""
    x = f64(x)
    return np.where(x <= 0.0, 0.0, x)


def relu_backward(dy, x):
    """dy where x > 0, else 0 (also at 0); NaN in x gives the gradient through, as x <= 0 is false."""
    dy, x = f64(dy, x)
    return np.where(x <= 0.0, 0.0, dy)


def erfc(x):
    """1 - erf(x) without cancellation."""
    x = f64(x)
    return np.fromiter(map(math.erfc, x.ravel().tolist()), F64, x.size).reshape(x.shape)


def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-x))


def times_gate(x, gate):
    """x * gate, where a gate of 0 closes even at -infinity."""
    return np.where(gate == 0.0, 0.0, x * gate)


def normal_cdf(x):
    return 0.5 * erfc(-x / math.sqrt(2.0))


def normal_pdf(x):
    return np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


GELU_TANH = 2.0 * math.sqrt(2.0 / math.pi)


def tanh_gate(x):
    """(1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, as a sigmoid."""
    return sigmoid(GELU_TANH * (x + 0.044715 * x**3))


def gated_slope(x, gate, log_odds_slope):
    """d/dx (x gate(x)) where gate' = gate (1 - gate) log_odds_slope."""
    return gate + times_gate(x * log_odds_slope, gate * (1.0 - gate))


SLOPE = F64(np.float32(0.01))
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

# kind -> (f, f') on float64 arrays; kinks belong to the negative side, NaN to the positive one
ACTIVATIONS = {
    "relu": (relu, lambda x: np.where(x <= 0.0, 0.0, 1.0)),
    "leaky_relu": (
        lambda x, alpha=SLOPE: np.where(x <= 0.0, alpha * x, x),
        lambda x, alpha=SLOPE: np.where(x <= 0.0, alpha, 1.0),
    ),
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
    "tanh": (np.tanh, lambda x: 4.0 * sigmoid(2.0 * x) * sigmoid(-2.0 * x)),
    "gelu": (
        lambda x: times_gate(x, normal_cdf(x)),
        lambda x: normal_cdf(x) + times_gate(x, normal_pdf(x)),
    ),
    "gelu_tanh": (
        lambda x: times_gate(x, tanh_gate(x)),
        lambda x: gated_slope(x, tanh_gate(x), GELU_TANH * (1.0 + 3.0 * 0.044715 * x * x)),
    ),
    "silu": (lambda x: times_gate(x, sigmoid(x)), lambda x: gated_slope(x, sigmoid(x), 1.0)),
    "elu": (
        lambda x, alpha=1.0: np.where(x <= 0.0, alpha * np.expm1(x), x),
        lambda x, alpha=1.0: np.where(x <= 0.0, alpha * np.exp(x), 1.0),
    ),
    "selu": (
        lambda x: SELU_SCALE * np.where(x <= 0.0, SELU_ALPHA * np.expm1(x), x),
        lambda x: SELU_SCALE * np.where(x <= 0.0, SELU_ALPHA * np.exp(x), 1.0),
    ),
    "softplus": (lambda x: np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))), sigmoid),
}


def activation(x, kind, alpha=None):
    """f(x); alpha as the kernel has it, rounded to float32."""
    given = () if alpha is None else (F64(np.float32(alpha)),)
    with np.errstate(all="ignore"):
        return ACTIVATIONS[kind][0](f64(x), *given)


def activation_backward(dy, x, kind, alpha=None):
    """dy * f'(x)."""
    given = () if alpha is None else (F64(np.float32(alpha)),)
    with np.errstate(all="ignore"):
        return f64(dy) * ACTIVATIONS[kind][1](f64(x), *given)


# ---- batch normalization -----------------------------------------------------------------------------------


def batch_norm(x, gamma, beta, *, eps=1e-5, mean=None, var=None, activation=None):
    """(y, mean, var, xhat) over all axes but the last; the given mean and var are used in evaluation."""
    x, gamma, beta = f64(x, gamma, beta)
    eps = F64(np.float32(eps))
    rows = x.reshape(int(np.prod(x.shape[:-1])), x.shape[-1])
    mean = rows.mean(0) if mean is None else f64(mean)
    var = ((rows - mean) ** 2).mean(0) if var is None else f64(var)
    xhat = (x - mean) / np.sqrt(var + eps)
    y = gamma * xhat + beta
    return (y if activation is None else ACTIVATIONS[activation][0](y)), mean, var, xhat


def running(old, batch, momentum):
    """(1 - momentum) * old + momentum * batch."""
    momentum = F64(np.float32(momentum))
    return (1.0 - momentum) * f64(old) + momentum * f64(batch)


def unbiased(var, rows):
    """The variance that divides by rows - 1."""
    return var * rows / (rows - 1)


def batch_norm_backward(dy, x, gamma, mean, rstd, *, y=None):
    """(dx, dgamma, dbeta); y is the result after ReLU where ReLU was fused."""
    dy, x, gamma, mean, rstd = f64(dy, x, gamma, mean, rstd)
    if y is not None:
        dy = relu_backward(dy, y)
    axes = tuple(range(x.ndim - 1))
    rows = x.size // max(1, x.shape[-1])
    xhat = (x - mean) * rstd
    dbeta, dgamma = dy.sum(axes), (dy * xhat).sum(axes)
    return gamma * rstd * (dy - dbeta / rows - xhat * dgamma / rows), dgamma, dbeta


# ---- loss --------------------------------------------------------------------------------------------------


def row_weights(rows, sample_weight=None):
    """Weights of the rows, as shares that sum to 1."""
    weight = np.ones(rows) if sample_weight is None else f64(sample_weight)
    return weight / weight.sum()


def softmax_targets(labels, classes, *, label_smoothing=0.0):
    """(rows, classes): one-hot rows of ids, or the probabilities, smoothed."""
    target = np.eye(classes)[labels] if np.asarray(labels).ndim == 1 else f64(labels)
    return coefficient(1.0 - label_smoothing) * target + coefficient(label_smoothing / classes)


def softmax_cross_entropy(logits, labels, sample_weight=None, *, label_smoothing=0.0, ignore_index=None):
    """(value, dlogits): the weighted mean over rows of -sum_c t_c log softmax(logits)_c."""
    logits = f64(logits)
    rows, classes = logits.shape
    if ignore_index is not None:
        kept = np.flatnonzero(np.asarray(labels) != ignore_index)
        weight = None if sample_weight is None else np.asarray(sample_weight)[kept]
        dlogits = np.zeros((rows, classes))
        value, dlogits[kept] = softmax_cross_entropy(
            logits[kept], np.asarray(labels)[kept], weight, label_smoothing=label_smoothing
        )
        return value, dlogits
    target = softmax_targets(labels, classes, label_smoothing=label_smoothing)
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    row_loss = -np.where(target == 0.0, 0.0, target * log_p).sum(1)
    weight = row_weights(rows, sample_weight)
    dlogits = weight[:, None] * (np.exp(log_p) * target.sum(1, keepdims=True) - target)
    return float((weight * row_loss).sum()), dlogits


def elementwise_loss(loss, slope, sample_weight, *, mean):
    """(value, dpred) from the loss of each output and its derivative; `mean` over outputs, or their sum."""
    rows = len(loss)
    weight = row_weights(rows, sample_weight).reshape(rows, *[1] * (loss.ndim - 1))
    if mean:
        weight = weight / (loss.size / rows)
    return float((weight * loss).sum()), weight * slope


def mse(pred, target, sample_weight=None):
    gap = f64(pred) - f64(target)
    return elementwise_loss(gap**2, 2.0 * gap, sample_weight, mean=True)


def quadratic_cost(pred, target, sample_weight=None):
    gap = f64(pred) - f64(target)
    return elementwise_loss(0.5 * gap**2, gap, sample_weight, mean=False)


def huber(pred, target, sample_weight=None, *, delta=1.0):
    gap, delta = f64(pred) - f64(target), coefficient(delta)
    far = np.abs(gap) > delta
    loss = np.where(far, delta * (np.abs(gap) - 0.5 * delta), 0.5 * gap**2)
    return elementwise_loss(loss, np.where(far, delta * np.sign(gap), gap), sample_weight, mean=True)


def sigmoid_cross_entropy(logits, targets, sample_weight=None):
    x, t = f64(logits, targets)
    loss = np.maximum(x, 0.0) - x * t + np.log1p(np.exp(-np.abs(x)))
    sigmoid = np.where(x < 0.0, np.exp(-np.abs(x)), 1.0) / (1.0 + np.exp(-np.abs(x)))
    return elementwise_loss(loss, sigmoid - t, sample_weight, mean=True)


# ---- updates: the new values of all arrays but the gradient ------------------------------------------------


def sgd(param, grad, *, lr):
    param, grad = f64(param, grad)
    return (param - coefficient(lr) * grad,)


def momentum(param, grad, velocity, *, lr, momentum=0.9, nesterov=False, style="buffer"):
    param, grad, velocity = f64(param, grad, velocity)
    lr, mu = coefficient(lr), coefficient(momentum)
    if style == "buffer":
        velocity = mu * velocity + grad
        return param - lr * (grad + mu * velocity if nesterov else velocity), velocity
    velocity = mu * velocity - lr * grad
    return param + (mu * velocity - lr * grad if nesterov else velocity), velocity


def rmsprop(param, grad, square_avg, *, lr, rho=0.9, eps=1e-8):
    param, grad, square_avg = f64(param, grad, square_avg)
    square_avg = coefficient(rho) * square_avg + coefficient(1.0 - rho) * grad**2
    return param - coefficient(lr) * grad / (np.sqrt(square_avg) + coefficient(eps)), square_avg


def adagrad(param, grad, square_sum, *, lr, eps=1e-10):
    param, grad, square_sum = f64(param, grad, square_sum)
    square_sum = square_sum + grad**2
    return param - coefficient(lr) * grad / (np.sqrt(square_sum) + coefficient(eps)), square_sum


def adam(
    param, grad, m, v, *, step, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, decoupled=False
):
    param, grad, m, v = f64(param, grad, m, v)
    if decoupled:
        param = param * coefficient(1.0 - lr * weight_decay)
    elif weight_decay:
        grad = grad + coefficient(weight_decay) * param
    m = coefficient(beta1) * m + coefficient(1.0 - beta1) * grad
    v = coefficient(beta2) * v + coefficient(1.0 - beta2) * grad**2
    rate = coefficient(lr / (1.0 - beta1**step))
    scale = coefficient(1.0 / np.sqrt(1.0 - beta2**step))
    return param - rate * m / (np.sqrt(v) * scale + coefficient(eps)), m, v


# ---- gradients by differences ------------------------------------------------------------------------------


def numerical_gradient(f, x, h=1e-6):
    """Central differences of the scalar function f at the float64 array x."""
    x = f64(x)
    grad = np.empty_like(x)
    for index in np.ndindex(x.shape):
        kept = x[index]
        x[index] = kept + h
        above = f(x)
        x[index] = kept - h
        below = f(x)
        x[index] = kept
        grad[index] = (above - below) / (2.0 * h)
    return grad


# ---- bits --------------------------------------------------------------------------------------------------


def fma(a, b, c):
    """The float32 nearest to a * b + c (one rounding, ties to even), for finite values.

    The product of two float32 is exact in float64. The sum is rounded to odd (an inexact result gets its last
    bit set), after which the second rounding, to float32, goes the way the exact sum would.
    """
    p = np.asarray(a, F64) * np.asarray(b, F64)
    c = np.asarray(c, F64)
    s = np.asarray(p + c)
    back = s - p
    lost = (p - (s - back)) + (c - back)  # exact: Knuth's two-sum
    bits = s.view(np.int64)
    away = np.where((lost > 0.0) == (s > 0.0), 1, -1)
    odd = np.where((lost != 0.0) & (bits & 1 == 0), bits + away, bits)
    return odd.view(F64).astype(np.float32)


def gemm_bits(
    a,
    b,
    *,
    out=None,
    bias=None,
    activation=None,
    trans_a=False,
    trans_b=False,
    alpha=1.0,
    beta=0.0,
    block=K_BLOCK,
):
    """The promised float32 bits of gemm: chains of `block` terms, added in order, then bias, then ReLU."""
    a, b = (a.T if trans_a else a), (b.T if trans_b else b)
    alpha, beta = np.float32(alpha), np.float32(beta)
    rows, terms = a.shape
    c = np.zeros((rows, b.shape[1]), np.float32) if beta == 0.0 else fma(beta, out, np.float32(0.0))
    for start in range(0, terms, block):
        chain = np.zeros_like(c)
        for k in range(start, min(terms, start + block)):
            chain = fma(a[:, k : k + 1], b[k : k + 1, :], chain)
        if start > 0:
            c = fma(alpha, chain, c)
        else:
            c = alpha * chain if beta == 0.0 else fma(beta, out, alpha * chain)
    if bias is not None:
        c = c + bias
    return c if activation is None else np.maximum(c, np.float32(0.0))
