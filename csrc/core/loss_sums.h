// The serial ends of the losses: what weights become before a kernel, and the value after it.
#pragma once

#include "core/types.h"

namespace fastnn {

// What the gradients of the rows are multiplied by: factor * w.
inline void scale_weights(const float* weight, Index n, double factor, float* out) {
    for (Index i = 0; i < n; ++i) out[i] = static_cast<float>(static_cast<double>(weight[i]) * factor);
}

// In the order of the rows, so that a row of weight 0 counts as if it were not there.
inline double weighted_sum(const double* row_loss, const float* weight, Index n) {
    double sum = 0;
    for (Index i = 0; i < n; ++i)
        sum += weight == nullptr ? row_loss[i] : static_cast<double>(weight[i]) * row_loss[i];
    return sum;
}

inline double sum_of_chunks(const double* sums, int chunks) {
    double sum = 0;
    for (int i = 0; i < chunks; ++i) sum += sums[i];
    return sum;
}

}  // namespace fastnn
