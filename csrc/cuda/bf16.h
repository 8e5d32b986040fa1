// bfloat16 in memory, one number at a time; the bits are those of csrc/cpu/bf16.h.
#pragma once

#include "core/formula.h"
#include "core/types.h"

namespace fastnn {

FASTNN_RULE float widened(BFloat16 x) {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(x.bits) << 16);
}
// To nearest, to even in the middle; NaN stays NaN.
FASTNN_RULE BFloat16 narrowed(float x) {
    const auto bits = __builtin_bit_cast(std::uint32_t, x);
    const std::uint32_t rounded = bits + 0x7fffu + (bits >> 16 & 1u);
    return {static_cast<std::uint16_t>((x != x ? 0x7fc00000u : rounded) >> 16)};
}

}  // namespace fastnn
