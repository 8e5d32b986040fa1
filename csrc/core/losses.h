// The elementwise losses, each once: F is a CPU vector (cpu/vec.h) or float (a CUDA thread). An FMA exists
// only where it is written, so both give the same bits.
#pragma once

#include "core/rules.h"

namespace fastnn {

// The loss of one output and its derivative by the prediction.
template <class F>
struct LossAt {
    F value, slope;
};

template <class F>
struct LossConstants {
    F half, delta, minus_delta;
};

// (pred - target)^2 / 2
template <class F>
FASTNN_RULE LossAt<F> squared_loss(const F& pred, const F& target, const LossConstants<F>& c) {
    const F gap = pred - target;
    return {gap * (gap * c.half), gap};
}

// (pred - target)^2 / 2 up to |pred - target| = delta, then delta (|pred - target| - delta / 2). The slope is
// the difference clipped to delta; min_ and max_ give their second argument for NaN.
template <class F>
FASTNN_RULE LossAt<F> huber_loss(const F& pred, const F& target, const LossConstants<F>& c) {
    const F gap = pred - target;
    const F slope = min_(c.delta, max_(c.minus_delta, gap));
    return {slope * (gap - slope * c.half), slope};
}

}  // namespace fastnn
