// Arithmetic on sizes that the kernels share.
#pragma once

#include "cpu/simd.h"

namespace fastnn::FASTNN_NS {

FASTNN_INLINE Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }
FASTNN_INLINE Index round_up(Index a, Index b) { return ceil_div(a, b) * b; }
FASTNN_INLINE Index least(Index a, Index b) { return a < b ? a : b; }
FASTNN_INLINE Index most(Index a, Index b) { return a > b ? a : b; }

}  // namespace fastnn::FASTNN_NS
