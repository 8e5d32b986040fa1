// The update rules, each once: F is a CPU vector (cpu/vec.h) or float (a CUDA thread). An FMA exists only
// where it is written, so both give the same bits. Coefficients are those of UpdateOptions. Options that cost
// one more addition or product are coefficients (0 or 1 where they are off, which changes no bit); those that
// cost an array are template parameters.
#pragma once

#include "core/formula.h"
#include "core/types.h"

namespace fastnn {

template <class F>
struct UpdateState {
    F param, grad, slot0, slot1, slot2;
};

template <class F>
struct UpdateCoefficients {
    F lr, decay0, decay1, one_minus0, one_minus1, eps, eps_inside, square_scale, root_scale, keep;

    FASTNN_RULE F root(const F& x) { return sqrt(x); }
};

// 1, 0 or -1; 0 for NaN
template <class F>
FASTNN_RULE F sign(const F& x) {
    const F one = constant<F>(1.0f);
    return keep_positive(x, one) - keep_positive(constant<F>(0.0f) - x, one);
}

// ---- what is done to the gradient before the rule sees it

// L2 and L1 towards `initial`: weight_decay (p - initial) + l1 sign(p - initial), given in two steps because
// each may be missing: 0 times an infinite parameter is no number.
template <class F>
FASTNN_RULE F with_decay(const F& grad, const F& gap, const F& decay) {
    return fma(decay, gap, grad);
}
template <class F>
FASTNN_RULE F with_l1(const F& grad, const F& gap, const F& l1) {
    return fma(l1, sign(gap), grad);
}

// ---- the rules (C: UpdateCoefficients, or what takes square roots in another way)

// p -= lr * g
template <class F>
FASTNN_RULE void sgd_rule(UpdateState<F>& s, const UpdateCoefficients<F>& c) {
    s.param = s.param - c.lr * s.grad;
}

// buffer (PyTorch, ONNX): v = mu v + share g; p -= lr (nesterov ? g + mu v : v)
// velocity (Sutskever, Keras): v = mu v - share g; p += (nesterov ? mu v - share g : v)
// share is 1 - dampening, in the velocity style times lr; nesterov has no dampening.
template <bool kVelocity, bool kNesterov, class F>
FASTNN_RULE void momentum_rule(UpdateState<F>& s, const UpdateCoefficients<F>& c) {
    const F step = c.one_minus0 * s.grad;
    if constexpr (kVelocity) {
        s.slot0 = c.decay0 * s.slot0 - step;
        s.param = s.param + (kNesterov ? c.decay0 * s.slot0 - step : s.slot0);
    } else {
        s.slot0 = fma(c.decay0, s.slot0, step);
        s.param = s.param - c.lr * (kNesterov ? fma(c.decay0, s.slot0, step) : s.slot0);
    }
}

// s = rho s + (1 - rho) g^2; d = sqrt(s + eps_inside) + eps; p -= lr g / d
// centered: a = rho a + (1 - rho) g, and s - a^2 stands under the root (0 where rounding makes it negative)
// buffered: b = mu b + g / d; p -= lr b
template <bool kCentered, bool kBuffered, class F, class C>
FASTNN_RULE void rmsprop_rule(UpdateState<F>& s, const C& c) {
    s.slot0 = fma(c.decay0, s.slot0, c.one_minus0 * (s.grad * s.grad));
    F square = s.slot0;
    if constexpr (kCentered) {
        s.slot1 = fma(c.decay0, s.slot1, c.one_minus0 * s.grad);
        const F zero = constant<F>(0.0f);  // an FMA, for which a^2 is not infinite where s is
        square = max_(zero, fma(zero - s.slot1, s.slot1, square));
    }
    const F root = c.root(square + c.eps_inside) + c.eps;
    if constexpr (kBuffered) {
        s.slot2 = fma(c.decay1, s.slot2, s.grad / root);
        s.param = s.param - c.lr * s.slot2;
    } else {
        s.param = s.param - c.lr * s.grad / root;
    }
}

// s = s + g^2; p -= lr g / (sqrt(s + eps_inside) + eps)
template <class F, class C>
FASTNN_RULE void adagrad_rule(UpdateState<F>& s, const C& c) {
    s.slot0 = fma(s.grad, s.grad, s.slot0);
    s.param = s.param - c.lr * s.grad / (c.root(s.slot0 + c.eps_inside) + c.eps);
}

// m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p = keep p - lr' m / (sqrt(a v + eps_inside) b + eps).
// eps outside the root (the paper): lr' = lr / (1 - b1^t), a = 1, b = 1 / sqrt(1 - b2^t), eps_inside = 0;
// inside: a = 1 / (1 - b2^t), b = 1, eps = 0; "hat" (Keras): a = b = 1, lr' = lr sqrt(1 - b2^t) / (1 - b1^t).
// keep = 1 - lr wd for decoupled decay. amsgrad: the largest v so far instead of v.
template <bool kAmsgrad, class F, class C>
FASTNN_RULE void adam_rule(UpdateState<F>& s, const C& c) {
    s.slot0 = fma(c.decay0, s.slot0, c.one_minus0 * s.grad);
    s.slot1 = fma(c.decay1, s.slot1, c.one_minus1 * (s.grad * s.grad));
    if constexpr (kAmsgrad) s.slot2 = max_(s.slot2, s.slot1);
    const F square = fma(kAmsgrad ? s.slot2 : s.slot1, c.square_scale, c.eps_inside);
    s.param = s.param * c.keep - c.lr * s.slot0 / fma(c.root(square), c.root_scale, c.eps);
}

// iRprop-: the step d of each number grows by eta+ (decay1) while its gradient keeps its sign and shrinks by
// eta- (decay0) where it changes, within one_minus0 .. one_minus1; p -= sign(g) d, but where the sign changed
// p stays and g counts as 0 in the next step. slot0 = the gradient before, slot1 = d.
template <class F>
FASTNN_RULE void rprop_rule(UpdateState<F>& s, const UpdateCoefficients<F>& c) {
    const F zero = constant<F>(0.0f);
    const F agree = sign(s.grad) * sign(s.slot0);
    const F changed = zero - agree;
    const F factor = select_positive(agree, c.decay1, select_positive(changed, c.decay0, constant<F>(1.0f)));
    s.slot1 = min_(c.one_minus1, max_(c.one_minus0, s.slot1 * factor));
    s.slot0 = select_positive(changed, zero, s.grad);
    s.param = s.param - sign(s.slot0) * s.slot1;
}

}  // namespace fastnn
