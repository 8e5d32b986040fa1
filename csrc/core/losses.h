// The elementwise losses, each once: F is a CPU vector (cpu/vec.h) or float (a CUDA thread). An FMA exists
// only where it is written, so both give the same bits.
#pragma once

#include "core/functions.h"

namespace fastnn {

// The loss of one output and its derivative by the prediction.
template <class F>
struct LossAt {
    F value, slope;
};

// (pred - target)^2 / 2
template <class F>
FASTNN_RULE LossAt<F> squared_loss(const F& pred, const F& target) {
    const F gap = pred - target;
    return {gap * (gap * constant<F>(0.5f)), gap};
}

// (pred - target)^2 / 2 up to |pred - target| = delta, then delta (|pred - target| - delta / 2). The slope is
// the difference clipped to delta; min_ and max_ give their second argument for NaN.
template <class F>
FASTNN_RULE LossAt<F> huber_loss(const F& pred, const F& target, const F& delta) {
    const F gap = pred - target;
    const F slope = min_(delta, max_(constant<F>(0.0f) - delta, gap));
    return {slope * (gap - slope * constant<F>(0.5f)), slope};
}

// -t log p - (1 - t) log(1 - p) with p = sigmoid(x): max(x, 0) - x t + log(1 + u), u = e^-|x|; slope p - t.
template <class F>
FASTNN_RULE LossAt<F> logistic_loss(const F& x, const F& t) {
    const F zero = constant<F>(0.0f);
    const F one = constant<F>(1.0f);
    const F minus_x = zero - x;
    const F u = exp(min_(x, minus_x));
    const F p = select_positive(x, one, u) / (one + u);
    return {fma(minus_x, t, max_(zero, x)) + log1p_of_share(u), p - t};
}

}  // namespace fastnn
