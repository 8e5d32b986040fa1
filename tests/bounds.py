"""How far a float32 result may lie from the float64 reference: the formulas of docs/numerics.md.

`EPS` is np.finfo(np.float32).eps = 2**-23, the distance from 1 to the next float32 (a rounding errs by half).
`TINY`, the smallest normal float32, is added everywhere: kernels flush denormals.
"""

import numpy as np
import reference as ref
from fastnn._device import on_host as host  # an array wherever it lies as NumPy's

EPS = float(np.finfo(np.float32).eps)
BF16_ROUNDING = 2.0**-8  # of the number: bfloat16 has 8 bits
TINY = float(np.finfo(np.float32).tiny)


def assert_within(got, want, bound, what=""):
    """Fail unless |got - want| <= bound in every element; NaN matches NaN, an infinity the same one."""
    got, want = np.asarray(host(got)), np.asarray(want, np.float64)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, must be {want.shape}"
    if got.size == 0:
        return
    got = got.astype(np.float64)
    with np.errstate(invalid="ignore"):
        same = (got == want) | (np.isnan(got) & np.isnan(want))
        close = np.abs(got - want) <= np.broadcast_to(bound, want.shape) + TINY
    bad = ~(same | (close & np.isfinite(got)))
    if not bad.any():
        return
    excess = np.where(bad, np.abs(got - want) / (np.broadcast_to(bound, want.shape) + TINY), 0.0)
    at = np.unravel_index(np.nanargmax(np.nan_to_num(excess, nan=np.inf)), want.shape)
    limit = float(np.broadcast_to(bound, want.shape)[at])
    raise AssertionError(
        f"{what}: {int(bad.sum())} of {bad.size} elements beyond the bound; worst at {tuple(map(int, at))}: "
        f"got {got[at]!r}, want {want[at]!r}, off by {abs(got[at] - want[at]):.3g}, bound {limit:.3g}"
    )


def assert_bits(got, want, what=""):
    """Fail unless two arrays of one dtype are equal bit for bit (the sign of zero included)."""
    got, want = np.ascontiguousarray(host(got)), np.ascontiguousarray(host(want))
    assert got.dtype == want.dtype, f"{what}: dtypes {got.dtype} and {want.dtype}"
    assert got.shape == want.shape, f"{what}: shapes {got.shape} and {want.shape}"
    differ = got.view(f"i{got.itemsize}") != want.view(f"i{want.itemsize}")
    if differ.any():
        at = tuple(map(int, np.argwhere(differ)[0]))
        raise AssertionError(
            f"{what}: {int(differ.sum())} of {differ.size} elements differ in bits, first at {at}: "
            f"{got[at]!r}, {want[at]!r}"
        )


# ---- matrix product and column sums ------------------------------------------------------------------------


def gemm_bound(a, b, *, random, **epilogue):
    """2 sqrt(K) eps |A||B| on random data, K eps |A||B| always; and 2 eps of all terms of an epilogue."""
    trans_a = epilogue.get("trans_a", False)
    terms = a.shape[0] if trans_a else a.shape[1]
    product = ref.gemm(
        a,
        b,
        trans_a=trans_a,
        trans_b=epilogue.get("trans_b", False),
        alpha=epilogue.get("alpha", 1.0),
        absolute=True,
    )
    bound = sum_factor(terms, random=random) * product
    plain = (
        epilogue.get("alpha", 1.0) == 1.0
        and epilogue.get("beta", 0.0) == 0.0
        and epilogue.get("bias") is None
    )
    return bound if plain else bound + 2.0 * EPS * ref.gemm(a, b, absolute=True, **epilogue)


def gemm_bf16_bound(a, b, want, *, rounded, random, **arguments):
    """That of gemm on the same values; a result in bfloat16 is rounded once more, by 2**-8 of itself."""
    epilogue = {key: value for key, value in arguments.items() if key != "activation"}
    bound = gemm_bound(a, b, random=random, **epilogue)
    return bound + rounded * BF16_ROUNDING * (np.abs(want) + bound)


def sum_factor(terms, *, random):
    """The error of a sum of `terms` terms, as a share of the sum of their magnitudes."""
    return min(terms, 2.0 * np.sqrt(terms)) * EPS if random else terms * EPS


# ---- activations -------------------------------------------------------------------------------------------

MAX_ULP = 4.0
# kind -> (x below which the bound is absolute, its share of |x|); sigmoid(-87.336) is the last normal one
ABSOLUTE = {"gelu": (-1.0, 1e-7), "gelu_tanh": (-1.0, 1e-7), "silu": (-87.336, TINY)}


def ulp_of(want):
    """The distance from |want|, rounded to float32, to the next float32; of normal numbers at least."""
    with np.errstate(over="ignore"):
        nearest = np.abs(want).astype(np.float32)
    return np.spacing(np.clip(nearest, np.float32(TINY), np.float32(2.0**127))).astype(np.float64)


def activation_bound(kind, x, want):
    """The largest error allowed: 4 ULP; absolute for gelu below -1 and where the sigmoid of silu is denormal.

    A denormal truth may be zero, and so may what is proportional to a denormal input.
    """
    size, magnitude = np.abs(ref.f64(x)), np.abs(want)
    bound = MAX_ULP * ulp_of(want)
    if kind in ABSOLUTE:
        below, factor = ABSOLUTE[kind]
        bound = np.where(x < below, factor * size, bound)
    return bound + np.where(np.minimum(size, magnitude) < TINY, 2.0 * TINY, 0.0)


def counted_in_ulp(kind, x, want):
    """Where an error says something in ULP: the truth is a normal number, x is none that counts as zero."""
    x, magnitude = ref.f64(x), np.abs(want)
    counted = (magnitude >= TINY) & (magnitude <= float(np.finfo(np.float32).max)) & (np.abs(x) >= TINY)
    return counted & (x >= ABSOLUTE[kind][0]) if kind in ABSOLUTE else counted


# Errors of the derivatives, absolute: they have zeros, or are formed from a rounded y.
SLOPE_ERROR = {
    "relu": 0.0,
    "leaky_relu": 0.0,
    "sigmoid": 1e-7,
    "tanh": 3.5e-7,
    "gelu": 5e-7,
    "gelu_tanh": 2.5e-7,
    "silu": 2.5e-7,
    "elu": 1e-7,
    "selu": 2e-7,
    "softplus": 1e-7,
}


def activation_backward_bound(dy, kind, alpha=None):
    """|dy| times the error of the derivative, which grows with alpha, and the rounding of the product."""
    scale = max(1.0, alpha or 1.0)
    rounding = 0.0 if kind == "relu" else scale * EPS
    return (scale * SLOPE_ERROR[kind] + rounding) * np.abs(ref.f64(dy))


# ---- batch normalization -----------------------------------------------------------------------------------


def far_mean(mean, std):
    """|mean| / std where it is beyond 8, else 0: the share of eps that a far mean adds."""
    ratio = np.abs(mean) / std
    return np.where(ratio > 8.0, ratio, 0.0)


def batch_norm_bound(gamma, beta, xhat, mean, std):
    """6e-7 (|gamma| (1 + |xhat|) + |beta|), plus eps |gamma| |mean| / std where |mean| > 8 std."""
    gamma, beta = np.abs(ref.f64(gamma, beta))
    return 6e-7 * (gamma * (1.0 + np.abs(xhat)) + beta) + EPS * gamma * far_mean(mean, std)


def mean_bound(mean, std):
    """eps (2 |mean| + 4 std): the mean is formed from differences to a row of its chunk, then rounded."""
    return EPS * (2.0 * np.abs(mean) + 4.0 * std)


def batch_norm_backward_bounds(dy, x, gamma, mean, rstd, *, y=None):
    """Bounds of (dx, dgamma, dbeta): 6e-7 of the magnitudes that dx is made of; sums as in `sum_factor`."""
    dy, x, gamma, mean, rstd = (
        np.abs(ref.f64(dy)),
        ref.f64(x),
        np.abs(ref.f64(gamma)),
        ref.f64(mean),
        ref.f64(rstd),
    )
    if y is not None:
        dy = ref.relu_backward(dy, y)
    axes = tuple(range(x.ndim - 1))
    rows = x.size // max(1, x.shape[-1])
    xhat = np.abs((x - mean) * rstd)
    sum_dy, sum_dy_xhat = dy.sum(axes), (dy * xhat).sum(axes)
    far = far_mean(mean, 1.0 / rstd)
    dbeta = sum_factor(rows, random=True) * sum_dy
    dgamma = (sum_factor(rows, random=True) + 2.0 * EPS) * sum_dy_xhat + EPS * far * sum_dy
    parts = dy + sum_dy / rows + xhat * sum_dy_xhat / rows
    return gamma * rstd * (6e-7 * parts + EPS * far * sum_dy_xhat / rows), dgamma, dbeta


# ---- loss --------------------------------------------------------------------------------------------------


def softmax_bounds(logits, labels, sample_weight=None, *, label_smoothing=0.0, ignore_index=None):
    """(bound of the value, bounds of dlogits).

    z = logit - max of the row is rounded once, which moves exp(z) by |z| eps / 2; the polynomial and the
    reciprocal add at most 4 eps, the sum of C positive terms sqrt(C) eps. So p is known to a *relative*
    r = eps (4 + |z| + sqrt(C)), elementwise. dlogits = scale * (p * sum(t) - t) adds roundings of its terms.
    The loss of a row, log(sum) - z, errs by the same causes; the value is the weighted mean of the rows.
    """
    logits = ref.f64(logits)
    rows, classes = logits.shape
    weight = np.ones(rows) if sample_weight is None else ref.f64(sample_weight)
    if ignore_index is not None:
        kept = np.flatnonzero(labels != ignore_index)
        dlogits = np.zeros((rows, classes))
        value, dlogits[kept] = softmax_bounds(
            logits[kept], labels[kept], weight[kept], label_smoothing=label_smoothing
        )
        return value, dlogits
    target = np.abs(ref.softmax_targets(labels, classes, label_smoothing=label_smoothing))
    z = logits - logits.max(1, keepdims=True)
    total = np.exp(z).sum(1, keepdims=True)
    p = np.exp(z) / total
    relative = EPS * (4.0 + np.abs(z) + np.sqrt(classes))
    scale = (weight / weight.sum())[:, None]
    t_sum = target.sum(1, keepdims=True)
    dlogits = scale * (relative * p * t_sum + 2.0 * EPS * (p * t_sum + target))
    row = np.where(
        target == 0.0, 0.0, target * EPS * (4.0 + 2.0 * np.abs(z) + np.log(total) + np.sqrt(classes))
    ).sum(1)
    return float((weight * row).sum() / weight.sum()), dlogits


def elementwise_loss_bounds(name, pred, target, sample_weight=None, **numbers):
    """(bound of the value, bounds of dpred).

    A difference of two float32 is rounded once and then scaled: dpred errs by 2 eps of itself. Losses are at
    least 0, so their sum errs by their own errors, 4 eps, and as a sum of 64 + 16 + 4 terms. The sigmoid and
    log(1 + exp(-|x|)) have the error of exp and of the logarithm, 4 eps of themselves; sigmoid - t is rounded
    once more.
    """
    value, dpred = getattr(ref, name)(pred, target, sample_weight, **numbers)
    own, slope = 4.0 * value, 2.0 * np.abs(dpred)
    if name == "sigmoid_cross_entropy":
        with np.errstate(invalid="ignore"):
            sigmoid = np.exp(-np.logaddexp(0.0, -ref.f64(pred)))
        _, slope = ref.elementwise_loss(
            sigmoid, 4.0 * sigmoid + 2.0 * ref.f64(target), sample_weight, mean=True
        )
    return EPS * (own + 2.0 * np.sqrt(84.0) * value), EPS * slope


# ---- updates -----------------------------------------------------------------------------------------------


def ulp(x):
    """The distance from |x|, rounded to float32, to the next float32."""
    return np.spacing(np.abs(np.asarray(x)).astype(np.float32)).astype(np.float64)


def _sum(*terms):
    """2 ULP of the largest term of a sum."""
    return 2.0 * ulp(np.max(np.abs(np.broadcast_arrays(*terms)), axis=0))


# A sum errs by 2 ULP of its largest term. What enters it with an error of its own (an earlier sum, a square,
# a quotient) brings that error along: beside a parameter a thousand times larger it is nothing.


def sgd_bounds(param, grad, *, lr):
    param, grad = ref.f64(param, grad)
    return (_sum(param, lr * grad),)


def momentum_bounds(param, grad, velocity, *, lr, momentum=0.9, nesterov=False, style="buffer"):
    new = ref.momentum(param, grad, velocity, lr=lr, momentum=momentum, style=style)[1]
    param, grad, velocity = ref.f64(param, grad, velocity)
    rate = lr if style == "buffer" else 1.0
    step = grad if style == "buffer" else lr * grad
    slot = _sum(momentum * velocity, step)
    move, error = new, slot
    if nesterov:
        sign = 1.0 if style == "buffer" else -1.0
        move, error = momentum * new + sign * step, _sum(momentum * new, step) + momentum * slot
    return _sum(param, rate * move) + rate * error, slot


def _root_error(square, error):
    """The relative error of sqrt(square): half of that of the square."""
    return np.divide(0.5 * error, square, out=np.zeros_like(square), where=square > TINY)


def rmsprop_bounds(param, grad, square_avg, *, lr, rho=0.9, eps=1e-8):
    new = ref.rmsprop(param, grad, square_avg, lr=lr, rho=rho, eps=eps)[1]
    param, grad, square_avg = ref.f64(param, grad, square_avg)
    square = (1.0 - rho) * grad**2
    slot = _sum(rho * square_avg, square) + 0.5 * EPS * square
    update = np.abs(lr * grad) / (np.sqrt(new) + eps)
    return _sum(param, update) + update * (_root_error(new, slot) + 2.0 * EPS), slot


def adagrad_bounds(param, grad, square_sum, *, lr, eps=1e-10):
    new = ref.adagrad(param, grad, square_sum, lr=lr, eps=eps)[1]
    param, grad, square_sum = ref.f64(param, grad, square_sum)
    slot = _sum(square_sum, grad**2)
    update = np.abs(lr * grad) / (np.sqrt(new) + eps)
    return _sum(param, update) + update * (_root_error(new, slot) + 2.0 * EPS), slot


def adam_bounds(
    param, grad, m, v, *, step, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, decoupled=False
):
    decay = {"weight_decay": weight_decay, "decoupled": decoupled}
    _, new_m, new_v = ref.adam(param, grad, m, v, step=step, beta1=beta1, beta2=beta2, **decay)
    param, grad, m, v = ref.f64(param, grad, m, v)
    grad_error, param_error = 0.0, 0.0
    if decoupled:
        param_error = 0.5 * EPS * np.abs(param)
    elif weight_decay:
        grad_error = _sum(grad, weight_decay * param)
        grad = grad + weight_decay * param
    square = (1.0 - beta2) * grad**2
    m_error = _sum(beta1 * m, (1.0 - beta1) * grad) + (1.0 - beta1) * grad_error
    v_error = _sum(beta2 * v, square) + 0.5 * EPS * square
    v_error = v_error + 2.0 * (1.0 - beta2) * np.abs(grad) * grad_error
    rate = lr / (1.0 - beta1**step) / (np.sqrt(new_v / (1.0 - beta2**step)) + eps)
    update = rate * np.abs(new_m)
    update_error = rate * m_error + update * (_root_error(new_v, v_error) + 2.5 * EPS)
    return _sum(param, update) + update_error + param_error, m_error, v_error
