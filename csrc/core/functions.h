// Functions of one variable, one polynomial each for all ISAs. F is a CPU vector or float; its operations
// (fma, min_, max_, exp2_biased, mantissa, with_sign_of) are those of core/formula.h. docs/numerics.md has
// the errors found over all float32 values. Kernels flush denormals, so a result below 1.2e-38 is zero.
#pragma once

#include "core/formula.h"

namespace fastnn {

// x = n ln 2 + r with |r| <= ln 2 / 2, for x in [-88, 88.8].
template <class F>
struct ExpParts {
    F power;  // 2^n
    F r;
    F tail;  // (e^r - 1 - r) / r^2
};

template <class F>
FASTNN_RULE ExpParts<F> exp_parts(const F& x) {
    // Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits. ln 2 is taken in two parts:
    // the product of n with the first is exact.
    const F magic = constant<F>(12582912.0f);
    const F biased = fma(x, constant<F>(1.44269504f), magic);
    const F n = biased - magic;
    F r = fma(n, constant<F>(-0.693359375f), x);
    r = fma(n, constant<F>(2.12194440e-4f), r);
    return {exp2_biased(biased), r,
            polynomial(r, 1.38706667e-3f, 8.36626254e-3f, 4.16674353e-2f, 0.166665465f, 0.49999997f)};
}

// e^x. Below -87.34 the result is 0, above 88.37 it is infinite; NaN stays NaN.
template <class F>
FASTNN_RULE F exp(const F& x) {
    const ExpParts<F> e = exp_parts(min_(constant<F>(88.8f), max_(constant<F>(-88.0f), x)));
    return fma(fma(e.tail, e.r, constant<F>(1.0f)), e.r, constant<F>(1.0f)) * e.power;
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

// e^x - 1 for x <= 0, with the relative error of a result near zero.
template <class F>
FASTNN_RULE F expm1_negative(const F& x) {
    const ExpParts<F> e = exp_parts(max_(constant<F>(-40.0f), x));
    return fma(fma(e.tail, e.r * e.r, e.r), e.power, e.power - constant<F>(1.0f));
}

// 1 / (1 + e^-x)
template <class F>
FASTNN_RULE F sigmoid(const F& x) {
    return constant<F>(1.0f) / (constant<F>(1.0f) + exp(constant<F>(0.0f) - x));
}

// (1 - e^-2|x|) / (1 + e^-2|x|) with the sign of x
template <class F>
FASTNN_RULE F tanh(const F& x) {
    const F twice = x + x;
    const F e = expm1_negative(min_(twice, constant<F>(0.0f) - twice));
    return with_sign_of(x, e / (e + constant<F>(2.0f)));
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
    const F zero = constant<F>(0.0f);
    return max_(zero, x) + log1p_of_share(exp(min_(x, zero - x)));
}

}  // namespace fastnn
