// How sums are cut and put together, which fixes their bits: once for the CPU's kernels and the GPU's.
#pragma once

#include "core/formula.h"
#include "core/kernels.h"

namespace fastnn {

// ---- batch-norm statistics: of a block of kStatRows rows, sums of d and d^2 with d = x - shift

// The shift of a block is the mean of these rows of it, one of each twelve, at uneven distances: data with a
// period are sampled fairly (with a spike in every twelfth row, and just those sampled, rstd was off by
// 5e-6). A block with fewer rows takes row kShiftRow[i] * rows / kStatRows, or all where it has no more than
// these.
inline constexpr Index kShiftRows = 16;
FASTNN_TABLE unsigned char kShiftRow[kShiftRows] = {7,   14,  34,  41,  49,  68,  75,  95,
                                                    102, 110, 129, 136, 144, 163, 171, 190};
static_assert(kStatRows == 12 * kShiftRows);

// A block of n rows, with e = its shift - reference, joins the sums about the reference: sum + n e and
// squares + e (2 sum + n e).
FASTNN_RULE void add_moments(double rows, double e, double block_sum, double block_squares, double& sum,
                             double& squares) {
    const double ne = rows * e;
    sum += block_sum + ne;
    squares += block_squares + e * (2.0 * block_sum + ne);
}

// The sum of squares about the mean, which lies `offset` from the reference.
FASTNN_RULE double squares_about_mean(double sum, double squares, double offset) {
    const double rest = squares - sum * offset;
    // Rounding may leave a constant column a hair below zero; NaN stays.
    return rest < 0.0 ? 0.0 : rest;
}

// A running statistic moves by w towards that of the batch.
FASTNN_RULE double moved(double old, double batch, double w) { return (1.0 - w) * old + w * batch; }
// What the squares about the mean are multiplied by for the variance that is averaged.
FASTNN_RULE double averaged_share(const BatchNormArgs& a) {
    return 1.0 / (static_cast<double>(a.rows) - (a.biased ? 0.0 : 1.0));
}

// w of a batch after `updates` others where the running statistics are means of the batches alone, with
// weights that fade by 1 - momentum: momentum / (1 - (1 - momentum)^(updates + 1)). The power is made of
// squares, because pow of CUDA and of a C library differ in the last bits.
FASTNN_RULE double debiased_weight(double momentum, double updates) {
    constexpr double kMany = 1e15;  // by which each power has faded
    double faded = 1.0, factor = 1.0 - momentum;
    for (auto n = static_cast<Index>(updates < kMany ? updates + 1.0 : kMany); n > 0; n /= 2) {
        if (n % 2 == 1) faded *= factor;
        factor *= factor;
    }
    const double w = momentum / (1.0 - faded);
    return w < 1.0 ? w : 1.0;
}

// ---- elementwise losses: a chunk gives one number

inline constexpr Index kLossVectors = 64;  // so many are added lane by lane, before these sums are
inline constexpr Index kLossRows = 64;     // the same for rows

// Without weights, or with one output a row, the elements are one run; else rows are walked.
[[gnu::always_inline]] constexpr bool one_run(const PointLossArgs& a) {
    return a.weight == nullptr || a.cols == 1;
}
[[gnu::always_inline]] constexpr Index loss_rows_per_chunk(const PointLossArgs& a) {
    const Index rows = stream_chunk(a.rows * a.cols) / a.cols;
    const Index least = a.rows / 65536 + 1;
    return rows > least ? rows : least;
}
[[gnu::always_inline]] constexpr Index loss_chunks(const PointLossArgs& a) {
    const Index rows = loss_rows_per_chunk(a);
    return one_run(a) ? stream_chunks(a.rows * a.cols) : (a.rows + rows - 1) / rows;
}

}  // namespace fastnn
