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

}  // namespace fastnn::FASTNN_NS
