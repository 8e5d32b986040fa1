// bfloat16 to and from float32, a register at a time.
#pragma once

#include "cpu/simd.h"

namespace fastnn::FASTNN_NS {

// The first n numbers, 0 <= n <= Reg::kWidth; the others read as zero.
FASTNN_INLINE Reg widen(const BFloat16* p, int n) {
    BFloat16 whole[Reg::kWidth] = {};
    for (int i = 0; i < n; ++i) whole[i] = p[i];
    return widen(whole);
}

// Rounds to nearest, to even in the middle; NaN stays NaN. What narrow() returns holds it in its upper
// halves.
FASTNN_INLINE IntReg narrow(Reg x) {
    const IntReg bits = bits_of(x);
    const IntReg rounded = bits + iset1(0x7fff) + ((bits >> 16) & iset1(1));
    return bits_of(select_nan(x, floats_of(iset1(0x7fc00000)), floats_of(rounded)));
}
FASTNN_INLINE void store_narrow(BFloat16* p, Reg x) { store_upper(p, narrow(x)); }
FASTNN_INLINE void store_narrow(BFloat16* p, Reg x, int n) {
    BFloat16 whole[Reg::kWidth];
    store_upper(whole, narrow(x));
    for (int i = 0; i < n; ++i) p[i] = whole[i];
}

}  // namespace fastnn::FASTNN_NS
