// Normal numbers as a pure function of (seed, step, array, element), from the bits that dropout draws
// (core/dropout.h): the same on a lane of a CPU vector and in a CUDA thread, after a resume too.
#pragma once

#include "core/dropout.h"
#include "core/functions.h"

namespace fastnn {

// The key of a block of kDropoutBlock elements of array `place`. The seed differs from dropout's by "noise".
FASTNN_RULE DropoutKey noise_key(std::uint64_t seed, std::uint64_t step, std::uint64_t place,
                                 std::uint64_t block) {
    return dropout_key(seed ^ 0x6e6f697365u, step, (place << 32) ^ block);
}

// The bits of a float in [1, 2): its 23 low bits are random. The shift that dropout_bits leaves out comes
// first.
template <class U>
FASTNN_RULE U noise_bits(const U& counter, std::uint32_t middle) {
    const U x = dropout_bits(counter, middle);
    return ((x ^ (x >> 16)) >> 9) ^ 0x3f800000u;
}

// The normal number at the quantile of x in [1, 2): sqrt(2) erfinv(u) for u = 2 (x - 1.5) + 2^-23, the 2^23
// odd multiples of 2^-23 in (-1, 1), so |result| <= 5.3. erfinv: M. Giles, "Approximating the erfinv
// function" (2011), single precision; its coefficients times sqrt(2) would save the last product, not the
// comparison with the paper.
template <class F>
FASTNN_RULE F normal_of(const F& x) {
    const F one = constant<F>(1.0f);
    const F u = fma(constant<F>(2.0f), x - constant<F>(1.5f), constant<F>(0x1p-23f));
    const F w = constant<F>(0.0f) - log((one - u) * (one + u));
    const F near =
        polynomial(w - constant<F>(2.5f), 2.81022636e-08f, 3.43273939e-07f, -3.5233877e-06f, -4.39150654e-06f,
                   2.1858087e-04f, -1.25372503e-03f, -4.17768164e-03f, 2.46640727e-01f, 1.50140941f);
    const F far = polynomial(sqrt(w) - constant<F>(3.0f), -2.00214257e-04f, 1.00950558e-04f, 1.34934322e-03f,
                             -3.67342844e-03f, 5.73950773e-03f, -7.6224613e-03f, 9.43887047e-03f, 1.00167406f,
                             2.83297682f);
    return constant<F>(1.41421356f) * u * select_positive(w - constant<F>(5.0f), far, near);
}

}  // namespace fastnn
