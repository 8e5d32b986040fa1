// Lets the AVX-512 sources run on a CPU without AVX-512: every intrinsic becomes its SIMDe equivalent
// (https://github.com/simd-everywhere/simde). Included before everything else by the build that
// -C cmake.define.FASTNN_SIMDE=<include directory of SIMDe> makes; docs/adding.md has the command.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

// SIMDe 0.8 reads all sixteen lanes; the instruction reads those of the mask.
static inline simde__m512 fastnn_maskz_loadu_ps(simde__mmask16 mask, const void* p) {
    float lanes[16];
    for (int i = 0; i < 16; ++i) lanes[i] = (mask >> i & 1) != 0 ? static_cast<const float*>(p)[i] : 0.0f;
    return simde_mm512_loadu_ps(lanes);
}
#undef _mm512_maskz_loadu_ps
#define _mm512_maskz_loadu_ps(mask, p) fastnn_maskz_loadu_ps(mask, p)

// Not in SIMDe 0.8.
static inline void fastnn_mask_storeu_ps(void* p, simde__mmask16 mask, simde__m512 a) {
    float lanes[16];
    simde_mm512_storeu_ps(lanes, a);
    for (int i = 0; i < 16; ++i)
        if ((mask >> i & 1) != 0) static_cast<float*>(p)[i] = lanes[i];
}
static inline simde__m256i fastnn_cvtepi32_epi16(simde__m512i a) {
    int lanes[16];
    short halves[16];
    simde_mm512_storeu_si512(lanes, a);
    for (int i = 0; i < 16; ++i) halves[i] = static_cast<short>(lanes[i]);
    return simde_mm256_loadu_si256(reinterpret_cast<const simde__m256i*>(halves));
}
#undef _mm512_cvtepi32_epi16
#define _mm512_cvtepi32_epi16(a) fastnn_cvtepi32_epi16(a)
#undef _mm512_mask_storeu_ps
#define _mm512_mask_storeu_ps(p, mask, a) fastnn_mask_storeu_ps(p, mask, a)
