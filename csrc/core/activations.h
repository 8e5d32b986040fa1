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

template <class F>
FASTNN_RULE F elu(const F& x, const F& alpha) {
    return select_positive(x, x, alpha * expm1_negative(x));
}
template <class F>
FASTNN_RULE F elu_gradient(const F& dy, const F& y, const F& alpha) {
    return select_positive(y, dy, dy * (y + alpha));
}

inline constexpr float kSeluScale = 1.05070098735548049342f;
inline constexpr float kSeluScaleAlpha = 1.75809934084737685994f;  // scale * 1.67326324235437728482

template <class F>
FASTNN_RULE F selu(const F& x) {
    return select_positive(x, constant<F>(kSeluScale) * x, constant<F>(kSeluScaleAlpha) * expm1_negative(x));
}
template <class F>
FASTNN_RULE F selu_gradient(const F& dy, const F& y) {
    return select_positive(y, constant<F>(kSeluScale) * dy, dy * (y + constant<F>(kSeluScaleAlpha)));
}

// x * sigmoid(x). The bound makes -infinity give 0.
template <class F>
FASTNN_RULE F silu(const F& x) {
    const F above = max_(constant<F>(-100.0f), x);
    return above / (constant<F>(1.0f) + exp(constant<F>(0.0f) - above));
}
// s + x s (1 - s) with s = sigmoid(x) and 1 - s = e^-x s, so nothing cancels but the two terms.
template <class F>
FASTNN_RULE F silu_gradient(const F& dy, const F& x) {
    const F bounded = min_(constant<F>(88.0f), max_(constant<F>(-88.0f), x));
    const F e = exp(constant<F>(0.0f) - bounded);
    const F s = constant<F>(1.0f) / (constant<F>(1.0f) + e);
    return dy * fma(bounded * s, e * s, s);
}

// The two GELUs are x * gate(x) with gate(x) = 1 / (1 + 2^(-x logit(x^2))), which keeps the relative error of
// a small gate: 1 + erf or 1 + tanh cancels. A gate's `logit` is log2(e) times the log-odds of the gate,
// divided by x; `slope` the derivative of the log-odds. From x = -kZero downwards 2^(...) is infinite and the
// result 0; at kBound the gate is 1, and at -kBound it is denormal, which is zero.

// The normal distribution function (1 + erf(x / sqrt 2)) / 2. Minimax polynomials for |x| <= 5.4, where the
// gate is off by 3e-8 of itself for x >= -1 and by 5e-8 below; further out the gate is closed whatever they
// are.
struct NormalGate {
    static constexpr float kZero = 6.772f;
    static constexpr float kBound = 6.767f;

    template <class F>
    FASTNN_RULE F logit(const F& square) {
        return polynomial(square, 6.79259635e-11f, 1.44086731e-9f, -3.10385047e-7f, 1.07905162e-5f,
                          -1.56738199e-4f, -9.9605415e-5f, 0.104839027f, 2.30220866f);
    }
    template <class F>
    FASTNN_RULE F slope(const F& square) {
        return polynomial(square, 4.53124436e-08f, -2.89654213e-06f, 7.12211549e-05f, -7.73909676e-04f,
                          -3.24495486e-04f, 0.217992023f, 1.59577477f);
    }
};

// (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, whose log-odds are twice the argument of tanh.
struct TanhGate {
    static constexpr float kZero = 10.06f;
    static constexpr float kBound = 10.03f;

    template <class F>
    FASTNN_RULE F logit(const F& square) {
        return polynomial(square, 0.10294324f, 2.3022082f);
    }
    template <class F>
    FASTNN_RULE F slope(const F& square) {
        return polynomial(square, 0.21406445f, 1.5957691f);
    }
};

template <class Gate, class F>
FASTNN_RULE F gelu(const F& x) {
    const F above = max_(constant<F>(-Gate::kZero), x);
    const F bounded = min_(constant<F>(Gate::kBound), above);
    const Exp2Parts<F> e = exp2_of_product(constant<F>(0.0f) - bounded, Gate::logit(bounded * bounded));
    return above / fma(e.fraction, e.power, constant<F>(1.0f));
}
// g + x g (1 - g) slope(x^2), where 1 - g = 2^(...) g
template <class Gate, class F>
FASTNN_RULE F gelu_gradient(const F& dy, const F& x) {
    const F bounded = min_(constant<F>(Gate::kBound), max_(constant<F>(-Gate::kBound), x));
    const F square = bounded * bounded;
    const Exp2Parts<F> parts = exp2_of_product(constant<F>(0.0f) - bounded, Gate::logit(square));
    const F e = parts.fraction * parts.power;
    const F g = constant<F>(1.0f) / (constant<F>(1.0f) + e);
    return dy * fma(bounded * Gate::slope(square), e * g * g, g);
}

template <class F>
FASTNN_RULE F softplus_gradient(const F& dy, const F& x) {
    return dy * sigmoid(x);
}

}  // namespace fastnn
