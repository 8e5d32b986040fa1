// Batch-norm forward: y = activation((x - mean) * (rstd * gamma) + beta) over the columns of x, with the sums
// of cpu/batchnorm.cpp in their order.
#include "cuda/activate.h"
#include "cuda/entries.h"
#include "cuda/moments.h"

namespace fastnn {
namespace {

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
        const Pack<W> sample = x(p.begin + shift_row(i, rows));
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
                const Sums four = sums_of_four(x0.v[l], x1.v[l], x2.v[l], x3.v[l], shift.v[l]);
                sum.v[l] += four.plain;
                squares.v[l] += four.products;
            }
        },
        [&](Index r) {
            const Pack<W> x0 = x(r);
#pragma unroll
            for (int l = 0; l < W; ++l) {
                const Sums one = sums_of_one(x0.v[l], shift.v[l]);
                sum.v[l] += one.plain;
                squares.v[l] += one.products;
            }
        });
    if constexpr (kAlone) {
#pragma unroll
        for (int l = 0; l < W; ++l) finish_alone(a, p.column + l, shift.v[l], {sum.v[l], squares.v[l]});
    } else {
        const Index at = p.block * g.padded + p.column;
        store<W>(plane(a, g, 0) + at, shift);
        store<W>(plane(a, g, 1) + at, sum);
        store<W>(plane(a, g, 2) + at, squares);
    }
}

__global__ void __launch_bounds__(kColumnThreads)
    combine(const __grid_constant__ BatchNormArgs a, ColumnGrid g) {
    const Index j = thread_number();
    if (j >= a.cols) return;
    if (!a.training) {
        a.mean[j] = a.running_mean[j];
        a.rstd[j] = static_cast<float>(
            1.0 / ::sqrt(static_cast<double>(a.running_var[j]) + static_cast<double>(a.eps)));
        return;
    }
    finish_blocks(a, g, j);
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

bool in_packs(const BatchNormArgs& a) {
    return aligned(a.x, a.y, a.mean, a.rstd, a.gamma, a.beta, a.partials) &&
           in_fours(a.x_row, a.y_row, a.cols);
}

template <int W>
void form(const BatchNormArgs& a, void* stream) {
    const ColumnGrid g = column_grid(a.rows, a.cols);
    if (a.training && g.blocks == 1) {
        FASTNN_LAUNCH((reduce<W, true>), reduce_blocks(g, W), kColumnThreads, stream, a, g);
    } else {
        if (a.training) FASTNN_LAUNCH((reduce<W, false>), reduce_blocks(g, W), kColumnThreads, stream, a, g);
        FASTNN_LAUNCH(combine, blocks_for(a.cols, kColumnThreads), kColumnThreads, stream, a, g);
    }
}

template <int W>
void all_phases(const BatchNormArgs& a, void* stream) {
    if (!a.formed) form<W>(a, stream);
    if (a.rows > 0) FASTNN_LAUNCH(apply<W>, row_blocks(a.rows, a.cols, W), kThreads, stream, a);
}

}  // namespace

int cuda_moments(const BatchNormArgs& a, void* stream) {
    if (in_packs(a))
        form<4>(a, stream);
    else
        form<1>(a, stream);
    return launched();
}

int cuda_batch_norm(const BatchNormArgs& a, void* stream) {
    if (a.cols == 0) return 0;
    if (in_packs(a))
        all_phases<4>(a, stream);
    else
        all_phases<1>(a, stream);
    return launched();
}

}  // namespace fastnn
