// Vec: sixteen floats, whatever the ISA (one zmm, two ymm, two scalar groups). Streaming kernels and row
// reductions are written on it, so their lanes, and with them the bits, are the same everywhere.
#pragma once

#include "cpu/simd.h"

namespace fastnn::FASTNN_NS {

static constexpr int kLanes = 16;
static constexpr int kRegs = kLanes / Reg::kWidth;

// Vec, and for the activations several: formulas with chains as long as theirs run faster over four
// registers.
template <int kCount>
struct Regs {
    Reg r[kCount];

    __attribute__((always_inline)) static Regs of(float x);  // for core/formula.h
};
using Vec = Regs<kRegs>;

template <int kCount = kRegs, class F>
FASTNN_INLINE Regs<kCount> map(F f) {
    Regs<kCount> v;
    if constexpr (kCount == kRegs)  // with constants a column sum takes a tenth more instructions
        for (int i = 0; i < kCount; ++i) v.r[i] = f(i);
    else
        unroll<kCount>([&](auto i) FASTNN_BODY { v.r[i] = f(i); });
    return v;
}

FASTNN_INLINE Vec splat(float x) {
    return map([=](int) FASTNN_BODY { return set1(x); });
}
template <int kCount>
inline Regs<kCount> Regs<kCount>::of(float x) {
    return map<kCount>([=](int) FASTNN_BODY { return set1(x); });
}
FASTNN_INLINE Vec vload(const float* p) {
    return map([=](int i) FASTNN_BODY { return load(p + i * Reg::kWidth); });
}
FASTNN_INLINE void vstore(float* p, const Vec& a) {
    for (int i = 0; i < kRegs; ++i) store(p + i * Reg::kWidth, a.r[i]);
}
// kVecs vectors, `step` floats from each to the next.
template <int kVecs>
FASTNN_INLINE Regs<kVecs * kRegs> vload_each(const float* p, Index step) {
    return map<kVecs * kRegs>(
        [=](int i) FASTNN_BODY { return load(p + i / kRegs * step + i % kRegs * Reg::kWidth); });
}
template <int kVecs>
FASTNN_INLINE void vstore_each(float* p, Index step, const Regs<kVecs * kRegs>& a) {
    unroll<kVecs * kRegs>([&](auto i)
                              FASTNN_BODY { store(p + i / kRegs * step + i % kRegs * Reg::kWidth, a.r[i]); });
}
// The first n lanes, 1 <= n <= 16; the others read as zero. No byte outside is touched.
FASTNN_INLINE Vec vload(const float* p, int n) {
    if (n == kLanes) return vload(p);
    return map([=](int i) FASTNN_BODY {
        const int left = n - i * Reg::kWidth;
        return left >= Reg::kWidth ? load(p + i * Reg::kWidth)
               : left > 0          ? load(p + i * Reg::kWidth, left)
                                   : set1(0);
    });
}
FASTNN_INLINE void vstore(float* p, const Vec& a, int n) {
    if (n == kLanes) return vstore(p, a);
    for (int i = 0; i < kRegs; ++i) {
        const int left = n - i * Reg::kWidth;
        if (left >= Reg::kWidth)
            store(p + i * Reg::kWidth, a.r[i]);
        else if (left > 0)
            store(p + i * Reg::kWidth, a.r[i], left);
    }
}
template <int kCount>
FASTNN_INLINE Regs<kCount> operator+(const Regs<kCount>& a, const Regs<kCount>& b) {
    return map<kCount>([&](int i) FASTNN_BODY { return a.r[i] + b.r[i]; });
}
template <int kCount>
FASTNN_INLINE Regs<kCount> operator-(const Regs<kCount>& a, const Regs<kCount>& b) {
    return map<kCount>([&](int i) FASTNN_BODY { return a.r[i] - b.r[i]; });
}
template <int kCount>
FASTNN_INLINE Regs<kCount> operator*(const Regs<kCount>& a, const Regs<kCount>& b) {
    return map<kCount>([&](int i) FASTNN_BODY { return a.r[i] * b.r[i]; });
}
template <int kCount>
FASTNN_INLINE Regs<kCount> operator/(const Regs<kCount>& a, const Regs<kCount>& b) {
    return map<kCount>([&](int i) FASTNN_BODY { return a.r[i] / b.r[i]; });
}
template <int kCount>
FASTNN_INLINE Regs<kCount> fma(const Regs<kCount>& a, const Regs<kCount>& b, const Regs<kCount>& c) {
    return map<kCount>([&](int i) FASTNN_BODY { return fma(a.r[i], b.r[i], c.r[i]); });
}
template <int kCount>
FASTNN_INLINE Regs<kCount> sqrt(const Regs<kCount>& a) {
    return map<kCount>([&](int i) FASTNN_BODY { return sqrt(a.r[i]); });
}
template <int kCount>
FASTNN_INLINE Regs<kCount> root_by_products(const Regs<kCount>& a) {
    return map<kCount>([&](int i) FASTNN_BODY { return root_by_products(a.r[i]); });
}
template <int kCount>
FASTNN_INLINE Regs<kCount> max_(const Regs<kCount>& a, const Regs<kCount>& b) {
    return map<kCount>([&](int i) FASTNN_BODY { return max_(a.r[i], b.r[i]); });
}
template <int kCount>
FASTNN_INLINE Regs<kCount> min_(const Regs<kCount>& a, const Regs<kCount>& b) {
    return map<kCount>([&](int i) FASTNN_BODY { return min_(a.r[i], b.r[i]); });
}
template <int kCount>
FASTNN_INLINE Regs<kCount> keep_positive(const Regs<kCount>& x, const Regs<kCount>& a) {
    return map<kCount>([&](int i) FASTNN_BODY { return keep_positive(x.r[i], a.r[i]); });
}
template <int kCount>
FASTNN_INLINE Regs<kCount> select_positive(const Regs<kCount>& x, const Regs<kCount>& a,
                                           const Regs<kCount>& b) {
    return map<kCount>([&](int i) FASTNN_BODY { return select_positive(x.r[i], a.r[i], b.r[i]); });
}
template <int kCount>
FASTNN_INLINE Regs<kCount> magnitude(const Regs<kCount>& a) {
    return map<kCount>([&](int i) FASTNN_BODY { return magnitude(a.r[i]); });
}
template <int kCount>
FASTNN_INLINE Regs<kCount> with_sign_of(const Regs<kCount>& x, const Regs<kCount>& a) {
    return map<kCount>([&](int i) FASTNN_BODY { return with_sign_of(x.r[i], a.r[i]); });
}
// The first n lanes of a, the others of b.
FASTNN_INLINE Vec first_of(const Vec& a, const Vec& b, int n) {
    return map([&](int i) FASTNN_BODY {
        const int left = n - i * Reg::kWidth;
        return left >= Reg::kWidth ? a.r[i] : left > 0 ? first_of(a.r[i], b.r[i], left) : b.r[i];
    });
}
template <int kCount>
FASTNN_INLINE Regs<kCount> exp2_biased(const Regs<kCount>& s) {
    return map<kCount>([&](int i) FASTNN_BODY { return exp2_biased(s.r[i]); });
}
template <int kCount>
FASTNN_INLINE Regs<kCount> mantissa(const Regs<kCount>& x, Regs<kCount>& exponent) {
    return map<kCount>([&](int i) FASTNN_BODY { return mantissa(x.r[i], exponent.r[i]); });
}

// f of every lane: of the vectors, or of one float after another where there are no vectors (copies of each
// activation for every lane took 25 s to compile).
template <int kCount, class F, class... More>
FASTNN_INLINE Regs<kCount> lanewise(F f, const Regs<kCount>& first, const More&... more) {
    if constexpr (Reg::kVector) {
        return f(first, more...);
    } else {
        Regs<kCount> result;
        for (int k = 0; k < kCount; ++k)
            for (int i = 0; i < Reg::kWidth; ++i) result.r[k].v[i] = f(first.r[k].v[i], more.r[k].v[i]...);
        return result;
    }
}

// Lanes are folded in halves: 8, 4, 2, 1.
template <class F>
FASTNN_INLINE float fold(const Vec& a, F f) {
    float t[kLanes];
    vstore(t, a);
    for (int half = kLanes / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) t[i] = f(t[i], t[i + half]);
    return t[0];
}
// Sixteen folds at once: lane i of the result is the fold of v[i], in the same order. f: on registers.
template <class F>
FASTNN_INLINE Vec fold_each(const Vec (&v)[kLanes], F f) {
    return map([&](int k) FASTNN_BODY {
        Reg t[Reg::kWidth];
        for (int i = 0; i < Reg::kWidth; ++i) {
            const Vec& lanes = v[k * Reg::kWidth + i];
            t[i] = kRegs == 1 ? lanes.r[0] : f(lanes.r[0], lanes.r[kRegs - 1]);
        }
        transpose(t);
        for (int half = Reg::kWidth / 2; half > 0; half /= 2)
            for (int i = 0; i < half; ++i) t[i] = f(t[i], t[i + half]);
        return t[0];
    });
}
FASTNN_INLINE float sum(const Vec& a) {
    return fold(a, [](float x, float y) FASTNN_BODY { return x + y; });
}

// ---- sixteen 32-bit integers

struct IntVec {
    IntReg r[kRegs];
};

template <class F>
FASTNN_INLINE IntVec map_int(F f) {
    IntVec v;
    for (int i = 0; i < kRegs; ++i) v.r[i] = f(i);
    return v;
}

FASTNN_INLINE IntVec isplat(std::uint32_t x) {
    return map_int([=](int) FASTNN_BODY { return iset1(x); });
}
// 0, 1, ..., 15
FASTNN_INLINE IntVec lane_numbers() {
    return map_int([](int i) FASTNN_BODY { return count_from(i * Reg::kWidth); });
}
FASTNN_INLINE IntVec operator+(const IntVec& a, std::uint32_t b) {
    return map_int([&](int i) FASTNN_BODY { return a.r[i] + iset1(b); });
}
FASTNN_INLINE IntVec operator*(const IntVec& a, std::uint32_t b) {
    return map_int([&](int i) FASTNN_BODY { return a.r[i] * iset1(b); });
}
FASTNN_INLINE IntVec operator^(const IntVec& a, const IntVec& b) {
    return map_int([&](int i) FASTNN_BODY { return a.r[i] ^ b.r[i]; });
}
FASTNN_INLINE IntVec operator^(const IntVec& a, std::uint32_t b) {
    return map_int([&](int i) FASTNN_BODY { return a.r[i] ^ iset1(b); });
}
FASTNN_INLINE IntVec operator>>(const IntVec& a, int n) {
    return map_int([&](int i) FASTNN_BODY { return a.r[i] >> n; });
}
FASTNN_INLINE Vec as_floats(const IntVec& a) {
    return map([&](int i) FASTNN_BODY { return as_floats(a.r[i]); });
}
// bits >= least, both as signed numbers ? a : 0
FASTNN_INLINE Vec keep_at_least(const IntVec& least, const IntVec& bits, const Vec& a) {
    return map([&](int i) FASTNN_BODY { return keep_at_least(least.r[i], bits.r[i], a.r[i]); });
}

}  // namespace fastnn::FASTNN_NS
