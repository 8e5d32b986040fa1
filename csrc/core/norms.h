// Norms of gradients: how their sums of squares are cut, and what they decide; once for the CPU's kernels and
// the GPU's.
#pragma once

#include "core/formula.h"
#include "core/types.h"

namespace fastnn {

inline constexpr Index kSummed = 4096;  // elements that are summed in float32, in four chains of lanes
inline constexpr Index kUnitRows = 64;  // the same of a column, in one chain

FASTNN_RULE bool is_finite(double x) { return x - x == 0.0; }

// For sums beyond float32; infinite or NaN exactly when a term is.
FASTNN_RULE double sum_squares_exactly(const float* x, Index n, Index stride) {
    double total = 0.0;
    for (Index i = 0; i < n; ++i) {
        const double v = static_cast<double>(x[i * stride]);
        total += v * v;
    }
    return total;
}

// The sum of squares of n numbers, which was formed in float32.
FASTNN_RULE double checked_squares(float sum, const float* x, Index n, Index stride) {
    const auto wide = static_cast<double>(sum);
    return is_finite(wide) ? wide : sum_squares_exactly(x, n, stride);
}

// largest / norm where the norm is larger, else 1. NaN stays NaN; an infinite norm gives 0.
FASTNN_RULE float scale_of(double norm, double largest) {
    return norm <= largest ? 1.0f : static_cast<float>(largest / norm);
}

FASTNN_RULE float adaptive_scale(double grad_squares, double param_squares, float limit, float least) {
    const double weights = __builtin_sqrt(param_squares);
    const double floor = static_cast<double>(least);
    return scale_of(__builtin_sqrt(grad_squares),
                    static_cast<double>(limit) * (weights > floor ? weights : floor));
}

// From the sums of all chunks: whether a gradient is not finite, and the scales of norms.
FASTNN_RULE void decide(const UpdateArgs& a) {
    UpdateVerdict& verdict = *a.verdict;
    double total = 0.0;
    for (Index i = 0; i < a.count; ++i) {
        const Index first = a.tensors[i].first_chunk;
        const Index last = i + 1 < a.count ? a.tensors[i + 1].first_chunk : a.chunks;
        double own = 0.0;
        for (Index chunk = first; chunk < last; ++chunk) own += a.sums[chunk];
        if (verdict.non_finite < 0 && !is_finite(own)) verdict.non_finite = i;
        if (a.clip == Clip::norm)
            a.scales[i] = scale_of(__builtin_sqrt(own), static_cast<double>(a.clip_limit));
        total += own;
    }
    if (a.clip == Clip::global_norm) {
        const float scale = scale_of(__builtin_sqrt(total), static_cast<double>(a.clip_limit));
        for (Index i = 0; i < a.count; ++i) a.scales[i] = scale;
    }
    verdict.refused = verdict.refused || (a.refuse_non_finite && verdict.non_finite >= 0);
}

}  // namespace fastnn
