// Eight floats in plain C++: the reference that the vector ISAs equal bit for bit.
// Reg: load, store (whole or the first n), arithmetic, the operations of core/formula.h, first_of, transpose.
// IntReg: the integers of dropout and of bfloat16, which come last.
#pragma once

#include "core/formula.h"

namespace fastnn::scalar {

struct Reg {
    static constexpr int kWidth = 8;
    static constexpr bool kVector = false;
    float v[8];
};

template <class F>
FASTNN_INLINE Reg each(F f) {
    Reg r;
    for (int i = 0; i < 8; ++i) r.v[i] = f(i);
    return r;
}

FASTNN_INLINE Reg set1(float x) {
    return each([=](int) { return x; });
}
FASTNN_INLINE Reg load(const float* p) {
    return each([=](int i) { return p[i]; });
}
FASTNN_INLINE Reg load(const float* p, int n) {
    return each([=](int i) { return i < n ? p[i] : 0.0f; });
}
FASTNN_INLINE void store(float* p, Reg a) {
    for (int i = 0; i < 8; ++i) p[i] = a.v[i];
}
FASTNN_INLINE void store(float* p, Reg a, int n) {
    for (int i = 0; i < 8; ++i)
        if (i < n) p[i] = a.v[i];
}
FASTNN_INLINE Reg operator+(Reg a, Reg b) {
    return each([&](int i) { return a.v[i] + b.v[i]; });
}
FASTNN_INLINE Reg operator-(Reg a, Reg b) {
    return each([&](int i) { return a.v[i] - b.v[i]; });
}
FASTNN_INLINE Reg operator*(Reg a, Reg b) {
    return each([&](int i) { return a.v[i] * b.v[i]; });
}
FASTNN_INLINE Reg operator/(Reg a, Reg b) {
    return each([&](int i) { return a.v[i] / b.v[i]; });
}
FASTNN_INLINE Reg fma(Reg a, Reg b, Reg c) {
    return each([&](int i) { return fastnn::fma(a.v[i], b.v[i], c.v[i]); });
}
FASTNN_INLINE Reg sqrt(Reg a) {
    return each([&](int i) { return fastnn::sqrt(a.v[i]); });
}
// Whether the ISA has root_by_products, the bits of sqrt without the divider, for loops that need that for a
// quotient too; and whether it is faster on this CPU.
static constexpr bool kRootByProducts = false;
FASTNN_INLINE bool slow_divider() { return false; }
FASTNN_INLINE Reg max_(Reg a, Reg b) {
    return each([&](int i) { return fastnn::max_(a.v[i], b.v[i]); });
}
FASTNN_INLINE Reg min_(Reg a, Reg b) {
    return each([&](int i) { return fastnn::min_(a.v[i], b.v[i]); });
}
FASTNN_INLINE Reg keep_positive(Reg x, Reg a) {
    return each([&](int i) { return fastnn::keep_positive(x.v[i], a.v[i]); });
}
FASTNN_INLINE Reg select_positive(Reg x, Reg a, Reg b) {
    return each([&](int i) { return fastnn::select_positive(x.v[i], a.v[i], b.v[i]); });
}
FASTNN_INLINE Reg magnitude(Reg a) {
    return each([&](int i) { return fastnn::magnitude(a.v[i]); });
}
// x is NaN ? a : b
FASTNN_INLINE Reg select_nan(Reg x, Reg a, Reg b) {
    return each([&](int i) { return x.v[i] != x.v[i] ? a.v[i] : b.v[i]; });
}
FASTNN_INLINE Reg with_sign_of(Reg x, Reg a) {
    return each([&](int i) { return fastnn::with_sign_of(x.v[i], a.v[i]); });
}
// The first n lanes of a, the others of b.
FASTNN_INLINE Reg first_of(Reg a, Reg b, int n) {
    return each([&](int i) { return i < n ? a.v[i] : b.v[i]; });
}
FASTNN_INLINE Reg exp2_biased(Reg s) {
    return each([&](int i) { return fastnn::exp2_biased(s.v[i]); });
}
FASTNN_INLINE Reg mantissa(Reg x, Reg& exponent) {
    return each([&](int i) { return fastnn::mantissa(x.v[i], exponent.v[i]); });
}
FASTNN_INLINE void transpose(Reg (&r)[8]) {
    for (int i = 0; i < 8; ++i)
        for (int j = 0; j < i; ++j) {
            const float t = r[i].v[j];
            r[i].v[j] = r[j].v[i];
            r[j].v[i] = t;
        }
}

// ---- eight 32-bit integers; + and * wrap around

struct IntReg {
    std::uint32_t v[8];
};

template <class F>
FASTNN_INLINE IntReg each_int(F f) {
    IntReg r;
    for (int i = 0; i < 8; ++i) r.v[i] = f(i);
    return r;
}

FASTNN_INLINE IntReg iset1(std::uint32_t x) {
    return each_int([=](int) { return x; });
}
// first, first + 1, ...
FASTNN_INLINE IntReg count_from(int first) {
    return each_int([=](int i) { return static_cast<std::uint32_t>(first + i); });
}
FASTNN_INLINE IntReg operator+(IntReg a, IntReg b) {
    return each_int([&](int i) { return a.v[i] + b.v[i]; });
}
FASTNN_INLINE IntReg operator*(IntReg a, IntReg b) {
    return each_int([&](int i) { return a.v[i] * b.v[i]; });
}
FASTNN_INLINE IntReg operator&(IntReg a, IntReg b) {
    return each_int([&](int i) { return a.v[i] & b.v[i]; });
}
FASTNN_INLINE IntReg operator^(IntReg a, IntReg b) {
    return each_int([&](int i) { return a.v[i] ^ b.v[i]; });
}
FASTNN_INLINE IntReg operator>>(IntReg a, int n) {
    return each_int([&](int i) { return a.v[i] >> n; });
}
FASTNN_INLINE Reg as_floats(IntReg a) {
    return each([&](int i) { return as_float(a.v[i]); });
}
// bits >= least, both as signed numbers ? a : 0
FASTNN_INLINE Reg keep_at_least(IntReg floor, IntReg bits, Reg a) {
    return each([&](int i) {
        return static_cast<std::int32_t>(bits.v[i]) >= static_cast<std::int32_t>(floor.v[i]) ? a.v[i] : 0.0f;
    });
}

FASTNN_INLINE IntReg bits_of(Reg a) {
    IntReg r;
    __builtin_memcpy(&r, &a, sizeof(r));
    return r;
}
FASTNN_INLINE Reg floats_of(IntReg a) {
    Reg r;
    __builtin_memcpy(&r, &a, sizeof(r));
    return r;
}

// ---- eight bfloat16

FASTNN_INLINE Reg widen(const BFloat16* p) {
    return floats_of(each_int([=](int i) { return std::uint32_t{p[i].bits} << 16; }));
}
// The upper halves of a.
FASTNN_INLINE void store_upper(BFloat16* p, IntReg a) {
    for (int i = 0; i < 8; ++i) p[i].bits = static_cast<std::uint16_t>(a.v[i] >> 16);
}

}  // namespace fastnn::scalar
