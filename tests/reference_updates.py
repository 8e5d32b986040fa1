"""Steps of the optimizers with all their options, in float64: slow and obvious.

Coefficients are those that the kernels use, rounded to float32 once (`reference.coefficient`).
"""

import numpy as np
from reference import coefficient, f64
from reference_dropout import dropout_bits, mix64

# ---- what is done to the gradient first


def clip_scale(norm, largest):
    """The factor that brings a norm down to `largest`."""
    return largest / norm if norm > largest else 1.0


def clipped(kind, grads, params, limit, floor=0.0):
    """The gradients after clipping."""
    grads, params = [f64(g) for g in grads], [f64(p) for p in params]
    if kind == "value":
        return [np.clip(g, -limit, limit) for g in grads]
    if kind == "norm":
        return [g * clip_scale(np.sqrt((g**2).sum()), limit) for g in grads]
    if kind == "global_norm":
        scale = clip_scale(np.sqrt(sum((g**2).sum() for g in grads)), limit)
        return [g * scale for g in grads]
    if kind == "adaptive":
        return [g * adaptive_scales(g, p, limit, floor) for g, p in zip(grads, params, strict=True)]
    return grads


def adaptive_scales(grad, param, clipping, eps):
    """A factor for each column of a matrix, or one for a vector (a matrix of one row or column is one)."""
    columns = grad.ndim > 1 and grad.shape[-1] > 1 and grad.size > grad.shape[-1]
    axes = tuple(range(grad.ndim - 1)) if columns else None
    norm, weights = np.sqrt((grad**2).sum(axes)), np.sqrt((param**2).sum(axes))
    largest = clipping * np.maximum(weights, eps)
    return np.where(norm > largest, largest / np.where(norm > 0.0, norm, 1.0), 1.0)


def noise_uniforms(n, seed, step, place):
    """The shares in (0, 1) whose normal quantiles are the noise: odd multiples of 2^-24."""
    out = []
    for block in range(-(-n // 16384)):
        inner = mix64(mix64(seed ^ 0x6E6F697365) ^ step)
        key = mix64(inner ^ (place << 32) ^ block)
        count = np.arange(min(16384, n - block * 16384), dtype=np.uint32)
        counter = np.array([key % 2**32], np.uint32) + count * np.uint32(0x9E3779B9)
        bits = dropout_bits(counter, np.array([key >> 32], np.uint32))
        bits = (bits ^ (bits >> np.uint32(16))) >> np.uint32(9)
        out.append((2.0 * bits.astype(np.float64) + 1.0) / 2.0**24)
    return np.concatenate([np.zeros(0), *out])


def decayed(grad, param, initial, weight_decay, l1):
    gap = f64(param) - (0.0 if initial is None else f64(initial))
    return grad + coefficient(weight_decay) * gap + coefficient(l1) * np.sign(gap)


# ---- the rules: the new parameter and slots


def sgd(param, grad, slots, step, *, lr):
    return param - coefficient(lr) * grad, ()


def momentum(param, grad, slots, step, *, lr, momentum=0.9, nesterov=False, style="buffer", dampening=0.0):
    (v,) = slots
    lr, mu = coefficient(lr), coefficient(momentum)
    share = coefficient(1.0 - dampening) if step > 1 else 1.0
    if style == "buffer":
        v = mu * v + share * grad
        return param - lr * (grad + mu * v if nesterov else v), (v,)
    v = mu * v - lr * share * grad
    return param + (mu * v - lr * grad if nesterov else v), (v,)


def rmsprop(
    param, grad, slots, step, *, lr=1e-2, rho=0.9, eps=1e-8, centered=False, momentum=0.0, eps_mode="outside"
):
    slots = list(slots)
    s = slots[0] = coefficient(rho) * slots[0] + coefficient(1.0 - rho) * grad**2
    if centered:
        slots[1] = coefficient(rho) * slots[1] + coefficient(1.0 - rho) * grad
        s = np.maximum(s - slots[1] ** 2, 0.0)
    eps = coefficient(eps)
    move = grad / (np.sqrt(s + eps) if eps_mode == "inside" else np.sqrt(s) + eps)
    if momentum:
        move = slots[-1] = coefficient(momentum) * slots[-1] + move
    return param - coefficient(lr) * move, tuple(slots)


def adagrad(param, grad, slots, step, *, lr=1e-2, eps=1e-10, eps_mode="outside"):
    s, eps = slots[0] + grad**2, coefficient(eps)
    root = np.sqrt(s + eps) if eps_mode == "inside" else np.sqrt(s) + eps
    return param - coefficient(lr) * grad / root, (s,)


def adam(
    param, grad, slots, step, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, amsgrad=False, eps_mode="outside"
):
    beta1, beta2 = betas
    m = coefficient(beta1) * slots[0] + coefficient(1.0 - beta1) * grad
    v = coefficient(beta2) * slots[1] + coefficient(1.0 - beta2) * grad**2
    largest = np.maximum(slots[2], v) if amsgrad else v
    first, second, eps = 1.0 - beta1**step, 1.0 - beta2**step, coefficient(eps)
    if eps_mode == "outside":
        move = (m / first) / (np.sqrt(largest / second) + eps)
    elif eps_mode == "inside":
        move = (m / first) / np.sqrt(largest / second + eps)
    else:
        move = np.sqrt(second) / first * m / (np.sqrt(largest) + eps)
    return param - lr * move, (m, v, largest)[: 3 if amsgrad else 2]


def rprop(param, grad, slots, step, *, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50)):
    previous, size = slots
    agree = np.sign(grad) * np.sign(previous)
    factor = np.where(agree > 0, coefficient(etas[1]), np.where(agree < 0, coefficient(etas[0]), 1.0))
    size = np.clip(size * factor, coefficient(step_sizes[0]), coefficient(step_sizes[1]))
    grad = np.where(agree < 0, 0.0, grad)
    return param - np.sign(grad) * size, (grad, size)
