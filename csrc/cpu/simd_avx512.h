// Sixteen floats in a zmm register. The operations and their meaning are those of simd_scalar.h.
#pragma once

#include <immintrin.h>

namespace fastnn::FASTNN_NS {

struct Reg {
    static constexpr int kWidth = 16;
    static constexpr bool kVector = true;
    __m512 v;
};

FASTNN_INLINE __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1u); }

FASTNN_INLINE Reg set1(float x) { return {_mm512_set1_ps(x)}; }
FASTNN_INLINE Reg load(const float* p) { return {_mm512_loadu_ps(p)}; }
FASTNN_INLINE Reg load(const float* p, int n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
FASTNN_INLINE void store(float* p, Reg a) { _mm512_storeu_ps(p, a.v); }
FASTNN_INLINE void store(float* p, Reg a, int n) { _mm512_mask_storeu_ps(p, first(n), a.v); }
FASTNN_INLINE Reg operator+(Reg a, Reg b) { return {_mm512_add_ps(a.v, b.v)}; }
FASTNN_INLINE Reg operator-(Reg a, Reg b) { return {_mm512_sub_ps(a.v, b.v)}; }
FASTNN_INLINE Reg operator*(Reg a, Reg b) { return {_mm512_mul_ps(a.v, b.v)}; }
FASTNN_INLINE Reg operator/(Reg a, Reg b) { return {_mm512_div_ps(a.v, b.v)}; }
FASTNN_INLINE Reg fma(Reg a, Reg b, Reg c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
FASTNN_INLINE Reg sqrt(Reg a) { return {_mm512_sqrt_ps(a.v)}; }
#if defined(__AVX512F__)
// An estimate of 14 bits, a step of Goldschmidt's and one of Markstein's. Exact for 0 and from 2^-100 on, as
// a comparison for all floats showed; others are left to the instruction.
FASTNN_INLINE Reg root_by_products(Reg a) {
    const __m512i bits = _mm512_castps_si512(a.v);
    const __mmask16 some = _mm512_test_epi32_mask(bits, bits);
    const __m512i least = _mm512_set1_epi32((127 - 100) << 23);
    const __m512i finite = _mm512_set1_epi32(((255 << 23) - 1) - ((127 - 100) << 23));
    if (_mm512_mask_cmpgt_epu32_mask(some, _mm512_sub_epi32(bits, least), finite) != 0) [[unlikely]]
        return sqrt(a);
    const __m512 half = _mm512_set1_ps(0.5f);
    const __m512 estimate = _mm512_maskz_rsqrt14_ps(some, a.v);
    const __m512 root = _mm512_mul_ps(a.v, estimate), halved = _mm512_mul_ps(half, estimate);
    const __m512 off = _mm512_fnmadd_ps(root, halved, half);
    const __m512 better = _mm512_fmadd_ps(root, off, root);
    return {
        _mm512_fmadd_ps(_mm512_fnmadd_ps(better, better, a.v), _mm512_fmadd_ps(halved, off, halved), better)};
}
// Sixteen roots keep the divider of an Emerald Rapids for 4.1 ns, as many quotients for 3.4. A Zen 5 is
// quicker: there products take 1.8 to 1.9 times as long for 10 thousand parameters, 1.2 to 1.4 for a million.
static constexpr bool kRootByProducts = true;
FASTNN_INLINE bool slow_divider() { return __builtin_cpu_is("intel") != 0; }
#else  // emulated
static constexpr bool kRootByProducts = false;
FASTNN_INLINE bool slow_divider() { return false; }
#endif
FASTNN_INLINE Reg max_(Reg a, Reg b) { return {_mm512_max_ps(a.v, b.v)}; }
FASTNN_INLINE Reg min_(Reg a, Reg b) { return {_mm512_min_ps(a.v, b.v)}; }
FASTNN_INLINE Reg keep_positive(Reg x, Reg a) {
    return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, _mm512_setzero_ps(), _CMP_NLE_UQ), a.v)};
}
FASTNN_INLINE Reg select_positive(Reg x, Reg a, Reg b) {
    return {_mm512_mask_mov_ps(b.v, _mm512_cmp_ps_mask(x.v, _mm512_setzero_ps(), _CMP_NLE_UQ), a.v)};
}
FASTNN_INLINE Reg magnitude(Reg a) { return {_mm512_andnot_ps(_mm512_set1_ps(-0.0f), a.v)}; }
FASTNN_INLINE Reg select_nan(Reg x, Reg a, Reg b) {
    return {_mm512_mask_mov_ps(b.v, _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q), a.v)};
}
FASTNN_INLINE Reg with_sign_of(Reg x, Reg a) {
    return {_mm512_or_ps(_mm512_and_ps(_mm512_set1_ps(-0.0f), x.v), a.v)};
}
FASTNN_INLINE Reg first_of(Reg a, Reg b, int n) { return {_mm512_mask_mov_ps(b.v, first(n), a.v)}; }
FASTNN_INLINE Reg exp2_biased(Reg s) {
    const __m512i shifted = _mm512_slli_epi32(_mm512_castps_si512(s.v), 23);
    return {_mm512_castsi512_ps(_mm512_add_epi32(shifted, _mm512_set1_epi32(0x3f800000)))};
}
FASTNN_INLINE Reg mantissa(Reg x, Reg& exponent) {
    const __m512i bits = _mm512_castps_si512(x.v);
    const __m512i n = _mm512_srai_epi32(_mm512_sub_epi32(bits, _mm512_set1_epi32(0x3f3504f3)), 23);
    exponent.v = _mm512_cvtepi32_ps(n);
    return {_mm512_castsi512_ps(_mm512_sub_epi32(bits, _mm512_slli_epi32(n, 23)))};
}
FASTNN_INLINE void transpose(Reg (&r)[16]) {
    __m512 t[16];
    unroll<8>([&](auto pair) FASTNN_BODY {
        constexpr int i = 2 * pair;
        t[i] = _mm512_unpacklo_ps(r[i].v, r[i + 1].v);
        t[i + 1] = _mm512_unpackhi_ps(r[i].v, r[i + 1].v);
    });
    __m512 u[16];  // u[4g + c]: in each 128-bit lane q, column 4q + c of rows 4g .. 4g+3
    unroll<4>([&](auto four) FASTNN_BODY {
        constexpr int i = 4 * four;
        u[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
        u[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    });
    unroll<4>([&](auto c) FASTNN_BODY {
        const __m512 lo01 =
            _mm512_shuffle_f32x4(u[c], u[c + 4], 0x88);  // lanes 0, 2 of rows 0-3, then of 4-7
        const __m512 hi01 = _mm512_shuffle_f32x4(u[c], u[c + 4], 0xdd);  // lanes 1, 3
        const __m512 lo23 = _mm512_shuffle_f32x4(u[c + 8], u[c + 12], 0x88);
        const __m512 hi23 = _mm512_shuffle_f32x4(u[c + 8], u[c + 12], 0xdd);
        r[c].v = _mm512_shuffle_f32x4(lo01, lo23, 0x88);
        r[c + 4].v = _mm512_shuffle_f32x4(hi01, hi23, 0x88);
        r[c + 8].v = _mm512_shuffle_f32x4(lo01, lo23, 0xdd);
        r[c + 12].v = _mm512_shuffle_f32x4(hi01, hi23, 0xdd);
    });
}

// ---- sixteen 32-bit integers

struct IntReg {
    __m512i v;
};

FASTNN_INLINE IntReg iset1(std::uint32_t x) { return {_mm512_set1_epi32(static_cast<int>(x))}; }
FASTNN_INLINE IntReg count_from(int first) {
    return {_mm512_add_epi32(_mm512_set1_epi32(first),
                             _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))};
}
FASTNN_INLINE IntReg operator+(IntReg a, IntReg b) { return {_mm512_add_epi32(a.v, b.v)}; }
FASTNN_INLINE IntReg operator*(IntReg a, IntReg b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
FASTNN_INLINE IntReg operator&(IntReg a, IntReg b) { return {_mm512_and_si512(a.v, b.v)}; }
FASTNN_INLINE IntReg operator^(IntReg a, IntReg b) { return {_mm512_xor_si512(a.v, b.v)}; }
FASTNN_INLINE IntReg operator>>(IntReg a, int n) {
    return {_mm512_srli_epi32(a.v, static_cast<unsigned>(n))};
}
FASTNN_INLINE Reg as_floats(IntReg a) { return {_mm512_castsi512_ps(a.v)}; }
FASTNN_INLINE Reg keep_at_least(IntReg floor, IntReg bits, Reg a) {
    return {_mm512_mask_mov_ps(a.v, _mm512_cmpgt_epi32_mask(floor.v, bits.v), _mm512_setzero_ps())};
}

FASTNN_INLINE IntReg bits_of(Reg a) { return {_mm512_castps_si512(a.v)}; }
FASTNN_INLINE Reg floats_of(IntReg a) { return {_mm512_castsi512_ps(a.v)}; }

// ---- sixteen bfloat16

FASTNN_INLINE Reg widen(const BFloat16* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
FASTNN_INLINE void store_upper(BFloat16* p, IntReg a) {
    const __m256i upper = _mm512_cvtepi32_epi16(_mm512_srli_epi32(a.v, 16));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), upper);
}

}  // namespace fastnn::FASTNN_NS
