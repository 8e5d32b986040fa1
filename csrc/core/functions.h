// Functions of one variable, one polynomial each for all ISAs. F is a CPU vector or float; its operations
// (fma, min_, max_, exp2_biased, mantissa, magnitude, with_sign_of) are those of core/formula.h.
// docs/numerics.md has the errors found over all float32 values. Kernels flush denormals, so a result
// below 1.2e-38 is zero.
#pragma once

#include "core/formula.h"

namespace fastnn {

// e^-x = power * e^-r with |r| <= ln 2 / 2, for x from -88 to 88. All exponentials are taken of -x: what the
// activations ask for, without a negation.
template <class F>
struct ExpParts {
    F power;
    F r;
};

template <class F>
FASTNN_RULE ExpParts<F> exp_minus_parts(const F& x) {
    // Adding 1.5 * 2^23 rounds to a whole number n and leaves it in the low bits. ln 2 is taken in two parts:
    // the product of n with the first is exact.
    const F magic = constant<F>(12582912.0f);
    const F biased = fma(x, constant<F>(-1.44269504f), magic);
    const F n = biased - magic;
    F r = fma(n, constant<F>(0.693359375f), x);
    r = fma(n, constant<F>(-2.12194440e-4f), r);
    return {exp2_biased(biased), r};
}

// The polynomial of e^-r, without its last two terms and divided by -r^2 in one_minus_exp_minus.
template <class F>
FASTNN_RULE F exp_minus_rest(const F& r) {
    return polynomial(r, 1.38706667e-3f, -8.36626254e-3f, 4.16674353e-2f, -0.166665465f, 0.49999997f, -1.0f,
                      1.0f);
}

// e^-x for x >= 0. Above 87.34 the result is 0; NaN stays NaN.
template <class F>
FASTNN_RULE F exp_minus(const F& x) {
    const ExpParts<F> e = exp_minus_parts(min_(constant<F>(88.0f), x));
    return exp_minus_rest(e.r) * e.power;
}

// 1 + e^-x for x up to 88, and down to -88.8: infinite from -88.4 downwards.
template <class F>
FASTNN_RULE F one_plus_exp_minus(const F& x) {
    const ExpParts<F> e = exp_minus_parts(x);
    return fma(exp_minus_rest(e.r), e.power, constant<F>(1.0f));
}

// 1 - e^-x for x >= 0, with the relative error of a result near zero.
template <class F>
FASTNN_RULE F one_minus_exp_minus(const F& x) {
    const ExpParts<F> e = exp_minus_parts(min_(constant<F>(40.0f), x));
    const F tail =
        polynomial(e.r, -1.38706667e-3f, 8.36626254e-3f, -4.16674353e-2f, 0.166665465f, -0.49999997f);
    return fma(fma(tail, e.r * e.r, e.r), e.power, constant<F>(1.0f) - e.power);
}

// ln x for normal, finite x > 0; NaN stays NaN. x = m 2^n, ln m by the polynomial of the Cephes library, n ln
// 2 in two parts.
template <class F>
FASTNN_RULE F log(const F& x) {
    F n;
    const F f = mantissa(x, n) - constant<F>(1.0f);
    const F square = f * f;
    const F tail = polynomial(f, 7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f,
                              1.4249322787e-1f, -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f,
                              3.3333331174e-1f);
    F p = fma(tail * f, square, n * constant<F>(-2.12194440e-4f));
    p = fma(square, constant<F>(-0.5f), p) + f;
    return fma(n, constant<F>(0.693359375f), p) + (x - x);  // the mantissa of NaN is a number
}

// 2^(a b) = power * fraction for a b in [-127.4, 128.4]: the product is rounded only after its whole part is
// gone.
template <class F>
struct Exp2Parts {
    F power;
    F fraction;  // from sqrt(1/2) to sqrt(2)
};

template <class F>
FASTNN_RULE Exp2Parts<F> exp2_of_product(const F& a, const F& b) {
    const F magic = constant<F>(12582912.0f);
    const F biased = fma(a, b, magic);
    const F r = fma(a, b, magic - biased);
    const F p = polynomial(r, 1.53275192e-4f, 1.33912428e-3f, 9.6185049e-3f, 5.55035919e-2f, 0.240226477f,
                           0.693147182f);
    return {exp2_biased(biased), fma(p, r, constant<F>(1.0f))};
}

// 1 / (1 + e^-x)
template <class F>
FASTNN_RULE F sigmoid(const F& x) {
    const F bounded = min_(constant<F>(88.0f), max_(constant<F>(-88.0f), x));
    return constant<F>(1.0f) / one_plus_exp_minus(bounded);
}

// (1 - e^-2|x|) / (1 + e^-2|x|) with the sign of x
template <class F>
FASTNN_RULE F tanh(const F& x) {
    const F size = magnitude(x);
    const F rest = one_minus_exp_minus(size + size);
    return with_sign_of(x, rest / (constant<F>(2.0f) - rest));
}

// log(1 + u) for u in [0, 1]: with s = 2u / (2 + u) it is 2 artanh(s / 2), an odd function of s <= 2/3.
template <class F>
FASTNN_RULE F log1p_of_share(const F& u) {
    const F s = (u + u) / (u + constant<F>(2.0f));
    const F square = s * s;
    const F rest = polynomial(square, 5.47407195e-4f, 2.18738406e-3f, 1.25067942e-2f, 8.33330154e-2f);
    return fma(s * square, rest, s);
}

// log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)
template <class F>
FASTNN_RULE F softplus(const F& x) {
    return max_(constant<F>(0.0f), x) + log1p_of_share(exp_minus(magnitude(x)));
}

}  // namespace fastnn
