// The statistics of batch-norm's columns, with the sums of cpu/batchnorm.cpp in their order: for its own
// kernels and for products that form them beside (product_statistics.h).
#pragma once

#include "core/sums.h"
#include "cuda/columns.h"

namespace fastnn {

// Planes of partial sums: the shift of each block, its sum of x - shift and of the squares.
FASTNN_RULE float* plane(const BatchNormArgs& a, const ColumnGrid& g, int which) {
    return a.partials + which * g.blocks * g.padded;
}

FASTNN_RULE bool is_frozen(const BatchNormArgs& a) { return a.frozen != nullptr && *a.frozen; }

// Row i of those that the shift of a block of so many rows is the mean of.
FASTNN_RULE Index shift_row(Index i, Index rows) {
    return rows > kShiftRows ? kShiftRow[i] * rows / kStatRows : i;
}

// What four rows, or one, add to a block's sums of d and d^2.
FASTNN_RULE Sums sums_of_four(float x0, float x1, float x2, float x3, float shift) {
    const float d0 = x0 - shift, d1 = x1 - shift, d2 = x2 - shift, d3 = x3 - shift;
    return {(d0 + d1) + (d2 + d3), fma(d1, d1, d0 * d0) + fma(d3, d3, d2 * d2)};
}
FASTNN_RULE Sums sums_of_one(float x, float shift) {
    const float d = x - shift;
    return {d, d * d};
}

// What the sums of all blocks about the reference give a column.
FASTNN_RULE void finish(const BatchNormArgs& a, Index j, double reference, double sum, double squares) {
    const double inverse = 1.0 / static_cast<double>(a.rows);
    const double offset = sum * inverse;
    const double variance = squares_about_mean(sum, squares, offset);
    const double mean = reference + offset;
    a.mean[j] = static_cast<float>(mean);
    a.rstd[j] = static_cast<float>(1.0 / ::sqrt(variance * inverse + static_cast<double>(a.eps)));
    if (a.running_mean == nullptr || is_frozen(a)) return;
    const double w =
        a.updates == nullptr ? a.momentum : debiased_weight(a.momentum, static_cast<double>(*a.updates));
    a.running_mean[j] = static_cast<float>(moved(static_cast<double>(a.running_mean[j]), mean, w));
    a.running_var[j] =
        static_cast<float>(moved(static_cast<double>(a.running_var[j]), variance * averaged_share(a), w));
}

// A block of so many rows joins the sums about the reference.
FASTNN_RULE void join(Index rows, float shift, Sums block, double reference, double& sum, double& squares) {
    add_moments(static_cast<double>(rows), static_cast<double>(shift) - reference,
                static_cast<double>(block.plain), static_cast<double>(block.products), sum, squares);
}

// A column whose rows are one block.
FASTNN_RULE void finish_alone(const BatchNormArgs& a, Index j, float shift, Sums block) {
    const double reference = static_cast<double>(shift);
    double sum = 0.0, squares = 0.0;
    join(a.rows, shift, block, reference, sum, squares);
    finish(a, j, reference, sum, squares);
}

// Of many blocks, whose partial sums other blocks of threads may have written (so not from L1).
FASTNN_CALLED void finish_blocks(const BatchNormArgs& a, const ColumnGrid& g, Index j) {
    const double reference = static_cast<double>(__ldcg(plane(a, g, 0) + j));
    double sum = 0.0, squares = 0.0;
    for (Index b = 0; b < g.blocks; ++b) {
        const Index at = b * g.padded + j, left = a.rows - b * kStatRows;
        const Sums block{__ldcg(plane(a, g, 1) + at), __ldcg(plane(a, g, 2) + at)};
        join(left < kStatRows ? left : kStatRows, __ldcg(plane(a, g, 0) + at), block, reference, sum,
             squares);
    }
    finish(a, j, reference, sum, squares);
}

}  // namespace fastnn
