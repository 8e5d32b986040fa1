// Rough single-thread rates: they only decide about the GIL and about asking other threads.
#pragma once

#include "core/types.h"

namespace fastnn {

// The multiply-adds, and b read once, which is the most of it where rows are few.
inline double gemm_ns(Index m, Index n, Index k) {
    return ((2.0 / 60.0 * static_cast<double>(m) + 0.03) * static_cast<double>(k) +
            2.0 / 30.0 * static_cast<double>(m)) *
           static_cast<double>(n);
}
inline double softmax_ns(Index rows, Index cols) {
    return static_cast<double>(rows) * (20.0 + 0.6 * static_cast<double>(cols));
}
inline double stream_ns(double floats) { return 4.0 / 30.0 * floats; }

}  // namespace fastnn
