// Functions of one variable on Vec, one polynomial for all ISAs.
#pragma once

#include "cpu/vec.h"

namespace fastnn::FASTNN_NS {

// e^x: n = round(x / ln 2) by the magic number 1.5 * 2^23, r = x - n ln 2 in two parts, e^r by the polynomial
// of the Cephes library, times 2^n. Below -87.33 the result is 0, above 88.37 it is infinite; NaN stays NaN.
FASTNN_INLINE Vec exp(const Vec& x) {
    const Vec bounded = min_(splat(88.8f), max_(splat(-87.4f), x));
    const Vec magic = splat(12582912.0f);
    const Vec biased = fma(bounded, splat(1.44269504f), magic);
    const Vec n = biased - magic;
    Vec r = fma(n, splat(-0.693359375f), bounded);
    r = fma(n, splat(2.12194440e-4f), r);
    Vec p = splat(1.9875691500e-4f);
    p = fma(p, r, splat(1.3981999507e-3f));
    p = fma(p, r, splat(8.3334519073e-3f));
    p = fma(p, r, splat(4.1665795894e-2f));
    p = fma(p, r, splat(1.6666665459e-1f));
    p = fma(p, r, splat(5.0000001201e-1f));
    p = fma(p, r * r, r) + splat(1.0f);
    return keep_positive(x + splat(87.33f), p * exp2_biased(biased));
}

// ln x for normal, finite x > 0, and NaN: x = m * 2^n, ln m by the polynomial of the Cephes library, n ln 2
// in two parts.
FASTNN_INLINE Vec log(const Vec& x) {
    Vec n;
    const Vec f = mantissa(x, n) - splat(1.0f);
    const Vec square = f * f;
    Vec p = splat(7.0376836292e-2f);
    p = fma(p, f, splat(-1.1514610310e-1f));
    p = fma(p, f, splat(1.1676998740e-1f));
    p = fma(p, f, splat(-1.2420140846e-1f));
    p = fma(p, f, splat(1.4249322787e-1f));
    p = fma(p, f, splat(-1.6668057665e-1f));
    p = fma(p, f, splat(2.0000714765e-1f));
    p = fma(p, f, splat(-2.4999993993e-1f));
    p = fma(p, f, splat(3.3333331174e-1f));
    p = fma(p * f, square, n * splat(-2.12194440e-4f));
    p = fma(square, splat(-0.5f), p) + f;
    return fma(n, splat(0.693359375f), p) + (x - x);  // NaN has a mantissa too
}

}  // namespace fastnn::FASTNN_NS
