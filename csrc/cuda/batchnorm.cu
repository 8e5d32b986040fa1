// Batch-norm forward: y = activation((x - mean) * (rstd * gamma) + beta) over the columns of x, with the sums
// of cpu/batchnorm.cpp in their order.
#include "core/sums.h"
#include "cuda/activate.h"
#include "cuda/columns.h"
#include "cuda/entries.h"

namespace fastnn {
namespace {

// Planes of partial sums: the shift of each block, its sum of x - shift and of the squares.
FASTNN_RULE float* plane(const BatchNormArgs& a, const ColumnGrid& g, int which) {
    return a.partials + which * g.blocks * g.padded;
}

FASTNN_RULE bool is_frozen(const BatchNormArgs& a) { return a.frozen != nullptr && *a.frozen; }

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
FASTNN_RULE void join(Index rows, float shift, float block_sum, float block_squares, double reference,
                      double& sum, double& squares) {
    add_moments(static_cast<double>(rows), static_cast<double>(shift) - reference,
                static_cast<double>(block_sum), static_cast<double>(block_squares), sum, squares);
}

// kAlone: there are no other blocks of rows.
template <int W, bool kAlone>
__global__ void __launch_bounds__(kColumnThreads) reduce(BatchNormArgs a, ColumnGrid g) {
    const ColumnPlace p = column_place<W>(g);
    if (p.begin == p.end) return;
    const auto x = [&](Index row) { return load<W>(a.x + row * a.x_row + p.column); };
    const Index rows = p.end - p.begin;
    const Index count = rows < kShiftRows ? rows : kShiftRows;
    Pack<W> shift{};
    for (Index i = 0; i < count; ++i) {
        const Pack<W> sample = x(p.begin + (rows > kShiftRows ? kShiftRow[i] * rows / kStatRows : i));
#pragma unroll
        for (int l = 0; l < W; ++l) shift.v[l] += sample.v[l];
    }
    const float inverse = 1.0f / static_cast<float>(count);
#pragma unroll
    for (int l = 0; l < W; ++l) shift.v[l] *= inverse;

    Pack<W> sum{}, squares{};
    each_four_rows(
        p,
        [&](Index r) {
            const Pack<W> x0 = x(r), x1 = x(r + 1), x2 = x(r + 2), x3 = x(r + 3);
#pragma unroll
            for (int l = 0; l < W; ++l) {
                const float d0 = x0.v[l] - shift.v[l], d1 = x1.v[l] - shift.v[l];
                const float d2 = x2.v[l] - shift.v[l], d3 = x3.v[l] - shift.v[l];
                sum.v[l] += (d0 + d1) + (d2 + d3);
                squares.v[l] += fma(d1, d1, d0 * d0) + fma(d3, d3, d2 * d2);
            }
        },
        [&](Index r) {
            const Pack<W> x0 = x(r);
#pragma unroll
            for (int l = 0; l < W; ++l) {
                const float d = x0.v[l] - shift.v[l];
                sum.v[l] += d;
                squares.v[l] += d * d;
            }
        });
    if constexpr (kAlone) {
#pragma unroll
        for (int l = 0; l < W; ++l) {
            const double reference = static_cast<double>(shift.v[l]);
            double all = 0.0, all_squares = 0.0;
            join(rows, shift.v[l], sum.v[l], squares.v[l], reference, all, all_squares);
            finish(a, p.column + l, reference, all, all_squares);
        }
    } else {
        const Index at = p.block * g.padded + p.column;
        store<W>(plane(a, g, 0) + at, shift);
        store<W>(plane(a, g, 1) + at, sum);
        store<W>(plane(a, g, 2) + at, squares);
    }
}

__global__ void __launch_bounds__(kColumnThreads) combine(BatchNormArgs a, ColumnGrid g) {
    const Index j = thread_number();
    if (j >= a.cols) return;
    if (!a.training) {
        a.mean[j] = a.running_mean[j];
        a.rstd[j] = static_cast<float>(
            1.0 / ::sqrt(static_cast<double>(a.running_var[j]) + static_cast<double>(a.eps)));
        return;
    }
    const double reference = static_cast<double>(plane(a, g, 0)[j]);
    double sum = 0.0;
    double squares = 0.0;
    for (Index b = 0; b < g.blocks; ++b) {
        const Index at = b * g.padded + j;
        const Index left = a.rows - b * kStatRows;
        join(left < kStatRows ? left : kStatRows, plane(a, g, 0)[at], plane(a, g, 1)[at], plane(a, g, 2)[at],
             reference, sum, squares);
    }
    finish(a, j, reference, sum, squares);
}

template <int W>
__global__ void __launch_bounds__(kThreads) apply(BatchNormArgs a) {
    // The statistics have read the number for the last time.
    if (a.updates != nullptr && thread_number() == 0 && !is_frozen(a)) *a.updates += 1.0f;
    const RowPlace p = row_place<W>(a.cols);
    if (p.row >= a.rows) return;
    const Pack<W> x = load<W>(a.x + p.row * a.x_row + p.column);
    const Pack<W> mean = load<W>(a.mean + p.column), rstd = load<W>(a.rstd + p.column);
    const Pack<W> gamma = load<W>(a.gamma + p.column), beta = load<W>(a.beta + p.column);
    Pack<W> y;
#pragma unroll
    for (int l = 0; l < W; ++l) {
        const float value = fma(x.v[l] - mean.v[l], rstd.v[l] * gamma.v[l], beta.v[l]);
        y.v[l] = activate_any(a.activation, value);
    }
    store<W>(a.y + p.row * a.y_row + p.column, y);
}

template <int W>
void all_phases(const BatchNormArgs& a, void* stream) {
    const ColumnGrid g = column_grid(a.rows, a.cols);
    if (a.training && g.blocks == 1) {
        FASTNN_LAUNCH((reduce<W, true>), reduce_blocks(g, W), kColumnThreads, stream, a, g);
    } else {
        if (a.training) FASTNN_LAUNCH((reduce<W, false>), reduce_blocks(g, W), kColumnThreads, stream, a, g);
        FASTNN_LAUNCH(combine, blocks_for(a.cols, kColumnThreads), kColumnThreads, stream, a, g);
    }
    if (a.rows > 0) FASTNN_LAUNCH(apply<W>, row_blocks(a.rows, a.cols, W), kThreads, stream, a);
}

}  // namespace

int cuda_batch_norm(const BatchNormArgs& a, void* stream) {
    if (a.cols == 0) return 0;
    if (aligned(a.x, a.y, a.mean, a.rstd, a.gamma, a.beta, a.partials) && in_fours(a.x_row, a.y_row, a.cols))
        all_phases<4>(a, stream);
    else
        all_phases<1>(a, stream);
    return launched();
}

}  // namespace fastnn
