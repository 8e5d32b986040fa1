// What AVX512_BF16 adds to AVX-512: the product of pairs.
#pragma once

#include "cpu/simd_avx512.h"

namespace fastnn::avx512bf16 {

// c + a1 * b1 + a0 * b0 in every lane, whose upper and lower half hold one bfloat16 each.
FASTNN_INLINE Reg add_products(Reg a, Reg b, Reg c) {
    return {_mm512_dpbf16_ps(c.v, __builtin_bit_cast(__m512bh, a.v), __builtin_bit_cast(__m512bh, b.v))};
}
FASTNN_INLINE Reg add_products_in_place(Reg a, Reg b, Reg c) {  // see simd.h
#if defined(__AVX512BF16__)
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(c.v) : "v"(a.v), "v"(b.v));
    return c;
#else
    return add_products(a, b, c);
#endif
}

}  // namespace fastnn::avx512bf16
