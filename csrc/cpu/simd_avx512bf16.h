// What AVX512_BF16 adds to AVX-512: the product of pairs.
#pragma once

#include "cpu/simd_avx512.h"

namespace fastnn::avx512bf16 {

// c + a1 * b1 + a0 * b0 in every lane, whose upper and lower half hold one bfloat16 each.
FASTNN_INLINE Reg add_products(Reg a, Reg b, Reg c) {
    return {_mm512_dpbf16_ps(c.v, __builtin_bit_cast(__m512bh, a.v), __builtin_bit_cast(__m512bh, b.v))};
}

}  // namespace fastnn::avx512bf16
