// The sums of batch-norm's gradient, with those of cpu/batchnorm_backward.cpp in their order: for its own
// kernels and for products that form them beside (product_statistics.h).
#pragma once

#include "cuda/activate.h"
#include "cuda/columns.h"

namespace fastnn {

// dy * activation'(y): one switch for the W columns.
template <int W>
FASTNN_RULE Pack<W> passed(Activation activation, Pack<W> dy, const Pack<W>& y) {
#define FASTNN_CASE(name)                                                                                  \
    case Activation::name:                                                                                 \
        if constexpr (derivative_of_result(Activation::name)) {                                            \
            for (int l = 0; l < W; ++l)                                                                    \
                dy.v[l] =                                                                                  \
                    activate_backward<Activation::name>(dy.v[l], y.v[l], default_alpha(Activation::name)); \
        }                                                                                                  \
        break;
    FASTNN_EACH_KIND(activation, FASTNN_CASE)
#undef FASTNN_CASE
    return dy;
}
template <int W>
FASTNN_RULE Pack<W> passed_pack(const BatchNormBackwardArgs& a, Index row, Index column) {
    const Pack<W> dy = load<W>(a.dy + row * a.dy_row + column);
    if (a.activation == Activation::none) return dy;
    return passed<W>(a.activation, dy, load<W>(a.y + row * a.y_row + column));
}

// What four rows, or one, add to a block's sums of dy' and dy' d.
FASTNN_RULE Sums gradient_of_four(const float (&dy)[4], const float (&x)[4], float mean) {
    const float first = fma(dy[1], x[1] - mean, dy[0] * (x[0] - mean));
    return {(dy[0] + dy[1]) + (dy[2] + dy[3]), first + fma(dy[3], x[3] - mean, dy[2] * (x[2] - mean))};
}
FASTNN_RULE Sums gradient_of_one(float dy, float x, float mean) { return {dy, dy * (x - mean)}; }

// Planes of partial sums: of dy' d, and of dy'.
FASTNN_RULE float* plane(const BatchNormBackwardArgs& a, const ColumnGrid& g, int which) {
    return a.partials + which * g.blocks * g.padded;
}

FASTNN_RULE void finish_gradient(const BatchNormBackwardArgs& a, Index j, double products, double plain) {
    const float dgamma = static_cast<float>(products * static_cast<double>(a.rstd[j]));
    const float dbeta = static_cast<float>(plain);
    a.sums[j] = dgamma;
    a.sums[a.cols + j] = dbeta;
    a.dgamma[j] = a.accumulate ? a.dgamma[j] + dgamma : dgamma;
    a.dbeta[j] = a.accumulate ? a.dbeta[j] + dbeta : dbeta;
}
FASTNN_CALLED void finish_blocks(const BatchNormBackwardArgs& a, const ColumnGrid& g, Index j) {
    const double plain = sum_blocks(plane(a, g, 1), g, j);
    finish_gradient(a, j, sum_blocks(plane(a, g, 0), g, j), plain);
}

}  // namespace fastnn
