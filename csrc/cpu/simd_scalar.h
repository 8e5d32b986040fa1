// Eight floats in plain C++: the reference that the vector ISAs equal bit for bit.
// Reg: load, store (whole or the first n), arithmetic, fma, sqrt, max_, min_, keep_positive, first_of,
// exp2_biased, transpose. IntReg, at the end: the integers of dropout.
#pragma once

namespace fastnn::scalar {

struct Reg {
    static constexpr int kWidth = 8;
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
// a * b + c with one rounding.
FASTNN_INLINE Reg fma(Reg a, Reg b, Reg c) {
    return each([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
}
FASTNN_INLINE Reg sqrt(Reg a) {
    return each([&](int i) { return __builtin_sqrtf(a.v[i]); });
}
// a > b ? a : b, so b where either is NaN; min_ likewise.
FASTNN_INLINE Reg max_(Reg a, Reg b) {
    return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
FASTNN_INLINE Reg min_(Reg a, Reg b) {
    return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
// x > 0 or x is NaN ? a : 0
FASTNN_INLINE Reg keep_positive(Reg x, Reg a) {
    return each([&](int i) { return !(x.v[i] <= 0.0f) ? a.v[i] : 0.0f; });
}
// The first n lanes of a, the others of b.
FASTNN_INLINE Reg first_of(Reg a, Reg b, int n) {
    return each([&](int i) { return i < n ? a.v[i] : b.v[i]; });
}
// 2^n for s = 12582912 + n: the low bits of s are n (vec.h, exp).
FASTNN_INLINE Reg exp2_biased(Reg s) {
    return each([&](int i) {
        unsigned bits;
        __builtin_memcpy(&bits, &s.v[i], 4);
        bits = (bits << 23) + 0x3f800000u;
        float r;
        __builtin_memcpy(&r, &bits, 4);
        return r;
    });
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
FASTNN_INLINE IntReg operator^(IntReg a, IntReg b) {
    return each_int([&](int i) { return a.v[i] ^ b.v[i]; });
}
FASTNN_INLINE IntReg operator>>(IntReg a, int n) {
    return each_int([&](int i) { return a.v[i] >> n; });
}
// bits >= least, both as signed numbers ? a : 0
FASTNN_INLINE Reg keep_at_least(IntReg floor, IntReg bits, Reg a) {
    return each([&](int i) {
        return static_cast<std::int32_t>(bits.v[i]) >= static_cast<std::int32_t>(floor.v[i]) ? a.v[i] : 0.0f;
    });
}

}  // namespace fastnn::scalar
