// The elementwise losses, each once: F is a CPU vector (cpu/vec.h) or float (a CUDA thread). An FMA exists
// only where it is written, so both give the same bits. Each returns the loss
// of one output and sets `slope` to its derivative by the prediction (a struct of both goes through memory in
// gcc 12, and takes four times as long).
#pragma once

#include "core/functions.h"

namespace fastnn {

// (pred - target)^2 / 2
template <class F>
FASTNN_RULE F squared_loss(const F& pred, const F& target, F& slope) {
    slope = pred - target;
    return slope * (slope * constant<F>(0.5f));
}

// (pred - target)^2 / 2 up to |pred - target| = delta, then delta (|pred - target| - delta / 2). The slope is
// the difference clipped to delta; min_ and max_ give their second argument for NaN.
template <class F>
FASTNN_RULE F huber_loss(const F& pred, const F& target, const F& delta, F& slope) {
    const F gap = pred - target;
    slope = min_(delta, max_(constant<F>(0.0f) - delta, gap));
    return slope * (gap - slope * constant<F>(0.5f));
}

// -t log p - (1 - t) log(1 - p) with p = sigmoid(x), as max(x, 0) (1 - t) + max(-x, 0) t + log(1 + e^-|x|):
// for targets in [0, 1] no term is negative, so nothing cancels. The slope is p - t.
template <class F>
FASTNN_RULE F logistic_loss(const F& x, const F& t, F& slope) {
    const F zero = constant<F>(0.0f);
    const F one = constant<F>(1.0f);
    const F minus_x = zero - x;
    const F u = exp_minus(magnitude(x));
    slope = select_positive(x, one, u) / (one + u) - t;
    return fma(max_(zero, x), one - t, fma(max_(zero, minus_x), t, log1p_of_share(u)));
}

}  // namespace fastnn
