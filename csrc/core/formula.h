// What formulas are written with, so that one text serves a CPU vector (cpu/vec.h) and a float (a CUDA
// thread, the scalar path). These are the operations and their meaning; a vector has the same ones, exact to
// the bit.
#pragma once

#include <type_traits>

#if defined(__CUDACC__)
#define FASTNN_RULE static __device__ __forceinline__
#define FASTNN_TABLE static __device__ constexpr  // indexed by a kernel
#else
#define FASTNN_RULE static inline __attribute__((always_inline))
#define FASTNN_TABLE static constexpr
#endif

namespace fastnn {

// a * b + c with one rounding.
FASTNN_RULE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
FASTNN_RULE float sqrt(float a) { return __builtin_sqrtf(a); }
// x, a denormal made zero of its sign: what results are, for a number that is only passed on.
FASTNN_RULE float flushed(float x) {
    unsigned bits;
    __builtin_memcpy(&bits, &x, 4);
    bits &= (bits & 0x7f800000u) != 0 ? 0xffffffffu : 0x80000000u;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}
// a > b ? a : b, so b where either is NaN, flushed as x86's maxps does; min_ likewise. The compiler may pick
// that instruction, or compare and pass a denormal on (builds with sanitizers, aarch64).
FASTNN_RULE float max_(float a, float b) { return flushed(a > b ? a : b); }
FASTNN_RULE float min_(float a, float b) { return flushed(a < b ? a : b); }
// x > 0 or x is NaN ? a : b
FASTNN_RULE float select_positive(float x, float a, float b) { return !(x <= 0.0f) ? a : b; }
// x > 0 or x is NaN ? a : 0
FASTNN_RULE float keep_positive(float x, float a) { return select_positive(x, a, 0.0f); }
FASTNN_RULE float magnitude(float a) { return __builtin_fabsf(a); }
// a, which is not negative, with the sign of x
FASTNN_RULE float with_sign_of(float x, float a) { return __builtin_copysignf(a, x); }
// 2^n for s = 12582912 + n, whose low bits are n (exp_parts), for n in -127 .. 128: the ends give 0 and
// infinity.
FASTNN_RULE float exp2_biased(float s) {
    unsigned bits;
    __builtin_memcpy(&bits, &s, 4);
    bits = (bits << 23) + 0x3f800000u;
    float r;
    __builtin_memcpy(&r, &bits, 4);
    return r;
}
// x = m * 2^exponent with m in [sqrt(1/2), sqrt(2)): returns m. x is positive, normal and finite.
FASTNN_RULE float mantissa(float x, float& exponent) {
    int bits;
    __builtin_memcpy(&bits, &x, 4);
    const int n = (bits - 0x3f3504f3) >> 23;
    exponent = static_cast<float>(n);
    bits -= n * (1 << 23);
    float m;
    __builtin_memcpy(&m, &bits, 4);
    return m;
}

// The float that has these bits.
FASTNN_RULE float as_float(unsigned bits) {
    float r;
    __builtin_memcpy(&r, &bits, 4);
    return r;
}

// A number as F.
template <class F>
FASTNN_RULE F constant(float x) {
    if constexpr (std::is_same_v<F, float>)
        return x;
    else
        return F::of(x);
}

// c0 + x (c1 + x (c2 + ...)), the highest coefficient given first.
template <class F, class... Lower>
FASTNN_RULE F polynomial(const F& x, float highest, Lower... lower) {
    F p = constant<F>(highest);
    ((p = fma(p, x, constant<F>(lower))), ...);
    return p;
}

}  // namespace fastnn
