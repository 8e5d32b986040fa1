// Eight floats in a ymm register. The operations and their meaning are those of simd_scalar.h.
#pragma once

#include <immintrin.h>

namespace fastnn::avx2 {

struct Reg {
    static constexpr int kWidth = 8;
    static constexpr bool kVector = true;
    __m256 v;
};

FASTNN_INLINE __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

FASTNN_INLINE Reg set1(float x) { return {_mm256_set1_ps(x)}; }
FASTNN_INLINE Reg load(const float* p) { return {_mm256_loadu_ps(p)}; }
FASTNN_INLINE Reg load(const float* p, int n) { return {_mm256_maskload_ps(p, first(n))}; }
FASTNN_INLINE void store(float* p, Reg a) { _mm256_storeu_ps(p, a.v); }
FASTNN_INLINE void store(float* p, Reg a, int n) { _mm256_maskstore_ps(p, first(n), a.v); }
FASTNN_INLINE Reg operator+(Reg a, Reg b) { return {_mm256_add_ps(a.v, b.v)}; }
FASTNN_INLINE Reg operator-(Reg a, Reg b) { return {_mm256_sub_ps(a.v, b.v)}; }
FASTNN_INLINE Reg operator*(Reg a, Reg b) { return {_mm256_mul_ps(a.v, b.v)}; }
FASTNN_INLINE Reg operator/(Reg a, Reg b) { return {_mm256_div_ps(a.v, b.v)}; }
FASTNN_INLINE Reg fma(Reg a, Reg b, Reg c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
FASTNN_INLINE Reg sqrt(Reg a) { return {_mm256_sqrt_ps(a.v)}; }
static constexpr bool kRootByProducts = false;
FASTNN_INLINE bool slow_divider() { return false; }
FASTNN_INLINE Reg max_(Reg a, Reg b) { return {_mm256_max_ps(a.v, b.v)}; }
FASTNN_INLINE Reg min_(Reg a, Reg b) { return {_mm256_min_ps(a.v, b.v)}; }
FASTNN_INLINE Reg keep_positive(Reg x, Reg a) {
    return {_mm256_and_ps(_mm256_cmp_ps(x.v, _mm256_setzero_ps(), _CMP_NLE_UQ), a.v)};
}
FASTNN_INLINE Reg select_positive(Reg x, Reg a, Reg b) {
    return {_mm256_blendv_ps(b.v, a.v, _mm256_cmp_ps(x.v, _mm256_setzero_ps(), _CMP_NLE_UQ))};
}
FASTNN_INLINE Reg magnitude(Reg a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
FASTNN_INLINE Reg select_nan(Reg x, Reg a, Reg b) {
    return {_mm256_blendv_ps(b.v, a.v, _mm256_cmp_ps(x.v, x.v, _CMP_UNORD_Q))};
}
FASTNN_INLINE Reg with_sign_of(Reg x, Reg a) {
    return {_mm256_or_ps(_mm256_and_ps(_mm256_set1_ps(-0.0f), x.v), a.v)};
}
FASTNN_INLINE Reg first_of(Reg a, Reg b, int n) {
    return {_mm256_blendv_ps(b.v, a.v, _mm256_castsi256_ps(first(n)))};
}
FASTNN_INLINE Reg exp2_biased(Reg s) {
    const __m256i shifted = _mm256_slli_epi32(_mm256_castps_si256(s.v), 23);
    return {_mm256_castsi256_ps(_mm256_add_epi32(shifted, _mm256_set1_epi32(0x3f800000)))};
}
FASTNN_INLINE Reg mantissa(Reg x, Reg& exponent) {
    const __m256i bits = _mm256_castps_si256(x.v);
    const __m256i n = _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32(0x3f3504f3)), 23);
    exponent.v = _mm256_cvtepi32_ps(n);
    return {_mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(n, 23)))};
}
FASTNN_INLINE void transpose(Reg (&r)[8]) {
    __m256 t[8];
    unroll<4>([&](auto pair) FASTNN_BODY {
        constexpr int i = 2 * pair;
        t[i] = _mm256_unpacklo_ps(r[i].v, r[i + 1].v);
        t[i + 1] = _mm256_unpackhi_ps(r[i].v, r[i + 1].v);
    });
    __m256 u[8];
    unroll<2>([&](auto half) FASTNN_BODY {
        constexpr int i = 4 * half;
        u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    });
    unroll<4>([&](auto i) FASTNN_BODY {
        r[i].v = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        r[i + 4].v = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
    });
}

// ---- eight 32-bit integers

struct IntReg {
    __m256i v;
};

FASTNN_INLINE IntReg iset1(std::uint32_t x) { return {_mm256_set1_epi32(static_cast<int>(x))}; }
FASTNN_INLINE IntReg count_from(int first) {
    return {_mm256_add_epi32(_mm256_set1_epi32(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))};
}
FASTNN_INLINE IntReg operator+(IntReg a, IntReg b) { return {_mm256_add_epi32(a.v, b.v)}; }
FASTNN_INLINE IntReg operator*(IntReg a, IntReg b) { return {_mm256_mullo_epi32(a.v, b.v)}; }
FASTNN_INLINE IntReg operator&(IntReg a, IntReg b) { return {_mm256_and_si256(a.v, b.v)}; }
FASTNN_INLINE IntReg operator^(IntReg a, IntReg b) { return {_mm256_xor_si256(a.v, b.v)}; }
FASTNN_INLINE IntReg operator>>(IntReg a, int n) { return {_mm256_srli_epi32(a.v, n)}; }
FASTNN_INLINE Reg as_floats(IntReg a) { return {_mm256_castsi256_ps(a.v)}; }
FASTNN_INLINE Reg keep_at_least(IntReg floor, IntReg bits, Reg a) {
    return {_mm256_andnot_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(floor.v, bits.v)), a.v)};
}

FASTNN_INLINE IntReg bits_of(Reg a) { return {_mm256_castps_si256(a.v)}; }
FASTNN_INLINE Reg floats_of(IntReg a) { return {_mm256_castsi256_ps(a.v)}; }

// ---- eight bfloat16

FASTNN_INLINE Reg widen(const BFloat16* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
}
FASTNN_INLINE void store_upper(BFloat16* p, IntReg a) {
    const __m256i upper = _mm256_srli_epi32(a.v, 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(upper, upper), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}

}  // namespace fastnn::avx2
