// The update rules, each once: F is a CPU vector (cpu/vec.h) or float (a CUDA thread). An FMA exists only
// where it is written, so both give the same bits. Coefficients are those of UpdateArgs.
#pragma once

#include "core/formula.h"
#include "core/types.h"

namespace fastnn {

template <class F>
struct UpdateState {
    F param, grad, slot0, slot1;
};

template <class F>
struct UpdateCoefficients {
    F lr, decay0, decay1, one_minus0, one_minus1, eps, root_scale, weight_decay;
};

// p -= lr * g
template <class F>
FASTNN_RULE void sgd_rule(UpdateState<F>& s, const UpdateCoefficients<F>& c) {
    s.param = s.param - c.lr * s.grad;
}

// buffer (PyTorch, ONNX): v = mu v + g; p -= lr (nesterov ? g + mu v : v)
// velocity (Sutskever, Keras): v = mu v - lr g; p += (nesterov ? mu v - lr g : v)
template <bool kVelocity, bool kNesterov, class F>
FASTNN_RULE void momentum_rule(UpdateState<F>& s, const UpdateCoefficients<F>& c) {
    const F step = kVelocity ? c.lr * s.grad : s.grad;
    if constexpr (kVelocity) {
        s.slot0 = c.decay0 * s.slot0 - step;
        s.param = s.param + (kNesterov ? c.decay0 * s.slot0 - step : s.slot0);
    } else {
        s.slot0 = fma(c.decay0, s.slot0, step);
        s.param = s.param - c.lr * (kNesterov ? fma(c.decay0, s.slot0, step) : s.slot0);
    }
}

// s = rho s + (1 - rho) g^2; p -= lr g / (sqrt(s) + eps)
template <class F>
FASTNN_RULE void rmsprop_rule(UpdateState<F>& s, const UpdateCoefficients<F>& c) {
    s.slot0 = fma(c.decay0, s.slot0, c.one_minus0 * (s.grad * s.grad));
    s.param = s.param - c.lr * s.grad / (sqrt(s.slot0) + c.eps);
}

// s = s + g^2; p -= lr g / (sqrt(s) + eps)
template <class F>
FASTNN_RULE void adagrad_rule(UpdateState<F>& s, const UpdateCoefficients<F>& c) {
    s.slot0 = fma(s.grad, s.grad, s.slot0);
    s.param = s.param - c.lr * s.grad / (sqrt(s.slot0) + c.eps);
}

// m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= lr m' / (sqrt(v') + eps), m' and v' bias-corrected:
// c.lr = lr / (1 - b1^t), c.root_scale = 1 / sqrt(1 - b2^t). Weight decay is added to g (weight_decay = wd)
// or, decoupled, multiplies p first (weight_decay = 1 - lr wd).
template <bool kDecoupled, class F>
FASTNN_RULE void adam_rule(UpdateState<F>& s, const UpdateCoefficients<F>& c, bool decay) {
    if constexpr (kDecoupled) {
        s.param = s.param * c.weight_decay;
    } else if (decay) {
        s.grad = fma(c.weight_decay, s.param, s.grad);
    }
    s.slot0 = fma(c.decay0, s.slot0, c.one_minus0 * s.grad);
    s.slot1 = fma(c.decay1, s.slot1, c.one_minus1 * (s.grad * s.grad));
    s.param = s.param - c.lr * s.slot0 / fma(sqrt(s.slot1), c.root_scale, c.eps);
}

}  // namespace fastnn
