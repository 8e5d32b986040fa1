// out[j] = sum over the rows of x[i, j]: the gradient of a bias.
#include "cuda/columns.h"
#include "cuda/entries.h"

namespace fastnn {
namespace {

FASTNN_RULE void write(const ColumnSumArgs& a, Index j, double total) {
    a.out[j] = (a.accumulate ? a.out[j] : 0.0f) + static_cast<float>(total);
}

// kAlone: there are no other blocks of rows.
template <int W, bool kAlone>
__global__ void __launch_bounds__(kColumnThreads) reduce(ColumnSumArgs a, ColumnGrid g) {
    const ColumnPlace p = column_place<W>(g);
    if (p.begin == p.end) return;
    Pack<W> sum{};
    const auto x = [&](Index row) { return load<W>(a.x + row * a.x_row + p.column); };
    each_four_rows(
        p,
        [&](Index r) {
            const Pack<W> x0 = x(r), x1 = x(r + 1), x2 = x(r + 2), x3 = x(r + 3);
#pragma unroll
            for (int l = 0; l < W; ++l) sum.v[l] += (x0.v[l] + x1.v[l]) + (x2.v[l] + x3.v[l]);
        },
        [&](Index r) {
            const Pack<W> x0 = x(r);
#pragma unroll
            for (int l = 0; l < W; ++l) sum.v[l] += x0.v[l];
        });
    if constexpr (kAlone) {
#pragma unroll
        for (int l = 0; l < W; ++l) write(a, p.column + l, static_cast<double>(sum.v[l]));
    } else {
        store<W>(a.partials + p.block * g.padded + p.column, sum);
    }
}

__global__ void __launch_bounds__(kColumnThreads) combine(ColumnSumArgs a, ColumnGrid g) {
    const Index j = thread_number();
    if (j < a.cols) write(a, j, sum_blocks(a.partials, g, j));
}

template <int W>
void all_phases(const ColumnSumArgs& a, void* stream) {
    const ColumnGrid g = column_grid(a.rows, a.cols);
    if (g.blocks == 1) {
        FASTNN_LAUNCH((reduce<W, true>), reduce_blocks(g, W), kColumnThreads, stream, a, g);
        return;
    }
    if (a.rows > 0) FASTNN_LAUNCH((reduce<W, false>), reduce_blocks(g, W), kColumnThreads, stream, a, g);
    FASTNN_LAUNCH(combine, blocks_for(a.cols, kColumnThreads), kColumnThreads, stream, a, g);
}

}  // namespace

int cuda_column_sum(const ColumnSumArgs& a, void* stream) {
    if (a.cols == 0) return 0;
    if (aligned(a.x, a.partials) && in_fours(a.x_row, a.cols))
        all_phases<4>(a, stream);
    else
        all_phases<1>(a, stream);
    return launched();
}

}  // namespace fastnn
