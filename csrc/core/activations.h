// The activations and their gradients, each once; F as in core/functions.h. NaN comes out as NaN.
//
// `<kind>_gradient(dy, y)` is dy * f'(x) written with y = f(x): the same bits whether y is at hand (a fused
// backward pass) or computed again. A kink belongs to the negative side: the derivative of ReLU at 0 is 0.
#pragma once

#include "core/functions.h"

namespace fastnn {

template <class F>
FASTNN_RULE F relu(const F& x) {
    return max_(constant<F>(0.0f), x);
}
template <class F>
FASTNN_RULE F relu_gradient(const F& dy, const F& y) {
    return keep_positive(y, dy);
}

template <class F>
FASTNN_RULE F leaky_relu(const F& x, const F& slope) {
    return select_positive(x, x, slope * x);
}
template <class F>
FASTNN_RULE F leaky_relu_gradient(const F& dy, const F& y, const F& slope) {
    return select_positive(y, dy, slope * dy);
}

template <class F>
FASTNN_RULE F sigmoid_gradient(const F& dy, const F& y) {
    return dy * (y * (constant<F>(1.0f) - y));
}

template <class F>
FASTNN_RULE F tanh_gradient(const F& dy, const F& y) {
    return dy * fma(constant<F>(0.0f) - y, y, constant<F>(1.0f));
}

// max(-x, 0)
template <class F>
FASTNN_RULE F negative_part(const F& x) {
    return max_(constant<F>(0.0f), constant<F>(0.0f) - x);
}

template <class F>
FASTNN_RULE F elu(const F& x, const F& alpha) {
    return fma(constant<F>(0.0f) - alpha, one_minus_exp_minus(negative_part(x)), max_(constant<F>(0.0f), x));
}
template <class F>
FASTNN_RULE F elu_gradient(const F& dy, const F& y, const F& alpha) {
    return select_positive(y, dy, dy * (y + alpha));
}

inline constexpr float kSeluScale = 1.05070098735548049342f;
inline constexpr float kSeluScaleAlpha = 1.75809934084737685994f;  // scale * 1.67326324235437728482

template <class F>
FASTNN_RULE F selu(const F& x) {
    return fma(constant<F>(-kSeluScaleAlpha), one_minus_exp_minus(negative_part(x)),
               constant<F>(kSeluScale) * max_(constant<F>(0.0f), x));
}
template <class F>
FASTNN_RULE F selu_gradient(const F& dy, const F& y) {
    return select_positive(y, constant<F>(kSeluScale) * dy, dy * (y + constant<F>(kSeluScaleAlpha)));
}

// x * sigmoid(x). From the bound downwards the denominator is infinite and the result 0.
template <class F>
FASTNN_RULE F silu(const F& x) {
    const F above = max_(constant<F>(-88.8f), x);
    return above / one_plus_exp_minus(min_(constant<F>(88.0f), above));
}
// (1 + e)^2 with one rounding that counts: squaring a rounded sum would double its error.
template <class F>
FASTNN_RULE F square_of_one_plus(const F& e) {
    return fma(e, e + constant<F>(2.0f), constant<F>(1.0f));
}

// s + x s (1 - s) with s = sigmoid(x) = 1 / (1 + e), which is (1 + e (1 + x)) / (1 + e)^2. At -80 the square
// is infinite and e (1 + x) is not.
template <class F>
FASTNN_RULE F silu_gradient(const F& dy, const F& x) {
    const F one = constant<F>(1.0f);
    const F bounded = min_(constant<F>(88.0f), max_(constant<F>(-80.0f), x));
    const ExpParts<F> parts = exp_minus_parts(bounded);
    const F e = exp_minus_rest(parts.r) * parts.power;
    return dy * (fma(e, one + bounded, one) / square_of_one_plus(e));
}

// The two GELUs are x * gate(x) with gate(x) = 1 / (1 + 2^(x logit(x^2))), which keeps the relative error of
// a small gate: 1 + erf or 1 + tanh cancels. A gate's `logit` is -log2(e) times the log-odds of the gate,
// divided by x. From x = -kZero downwards 2^(...) is infinite and the result 0; at kBound the gate is 1.

// The normal distribution function (1 + erf(x / sqrt 2)) / 2. A minimax polynomial for |x| <= 5.4, where the
// gate is off by 3.7e-8 of itself for x >= -1 and by 6.2e-8 below; further out the gate is closed whatever it
// is.
struct NormalGate {
    static constexpr float kZero = 7.269f;
    static constexpr float kBound = 7.265f;

    template <class F>
    FASTNN_RULE F logit(const F& square) {
        return polynomial(square, -4.20331592e-9f, 3.5027665e-7f, -1.10439751e-5f, 1.57451039e-4f,
                          9.8813638e-5f, -0.104838744f, -2.30220866f);
    }
};

// (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, whose log-odds are twice the argument of tanh.
struct TanhGate {
    static constexpr float kZero = 10.06f;
    static constexpr float kBound = 10.03f;

    template <class F>
    FASTNN_RULE F logit(const F& square) {
        return polynomial(square, -0.10294324f, -2.3022082f);
    }
    // The derivative of the log-odds.
    template <class F>
    FASTNN_RULE F slope(const F& square) {
        return polynomial(square, 0.21406445f, 1.5957691f);
    }
};

template <class Gate, class F>
FASTNN_RULE F gelu(const F& x) {
    const F above = max_(constant<F>(-Gate::kZero), x);
    const F bounded = min_(constant<F>(Gate::kBound), above);
    const Exp2Parts<F> e = exp2_of_product(bounded, Gate::logit(bounded * bounded));
    return above / fma(e.fraction, e.power, constant<F>(1.0f));
}

// gate(x) + x gate'(x), which for the normal distribution is Phi(x) + x phi(x). At -u it is e^(-u^2 / 2)
// times a smooth function of u >= 0, taken as a polynomial (off by 8e-8 after the product), and at u it is 1
// less that. At the bound the power is 0.
template <class F>
FASTNN_RULE F gelu_gradient(const F& dy, const F& x) {
    const F u = min_(constant<F>(13.27f), magnitude(x));
    const F smooth =
        polynomial(u, 1.67825294e-6f, -3.60404811e-5f, 3.45987646e-4f, -2.00031232e-3f, 8.00268259e-3f,
                   -2.44101565e-2f, 6.12444095e-2f, -0.132562608f, 0.249931023f, -0.79788065f, 0.5f);
    const Exp2Parts<F> e = exp2_of_product(u * u, constant<F>(-0.72134752f));  // -log2(e) / 2
    const F left = smooth * e.fraction * e.power;
    return dy * select_positive(x, constant<F>(1.0f) - left, left);
}

// With e the power of two of the gate, x e slope = x gate' / gate^2, so the gradient is (1 + e (1 + x slope))
// / (1 + e)^2. At the bound the square is infinite and the numerator is not.
template <class F>
FASTNN_RULE F gelu_tanh_gradient(const F& dy, const F& x) {
    const F one = constant<F>(1.0f);
    const F bounded = min_(constant<F>(9.7f), max_(constant<F>(-9.7f), x));
    const F square = bounded * bounded;
    const Exp2Parts<F> parts = exp2_of_product(bounded, TanhGate::logit(square));
    const F e = parts.fraction * parts.power;
    return dy * (fma(e, fma(bounded, TanhGate::slope(square), one), one) / square_of_one_plus(e));
}

template <class F>
FASTNN_RULE F softplus_gradient(const F& dy, const F& x) {
    return dy * sigmoid(x);
}

}  // namespace fastnn
