// out[j] = sum over the rows of x[i, j]: the gradient of a bias.
#include "cuda/columns.h"
#include "cuda/entries.h"

namespace fastnn {
namespace {

// kAlone: there are no other blocks of rows.
template <int W, bool kAlone>
__global__ void __launch_bounds__(kColumnThreads) reduce(ColumnSumArgs a, ColumnGrid g) {
    const ColumnPlace p = column_place<W>(g);
    if (p.begin == p.end) return;
    const Pack<W> sum = column_sums<W>(a, p);
    if constexpr (kAlone) {
#pragma unroll
        for (int l = 0; l < W; ++l) write_column_sum(a, p.column + l, static_cast<double>(sum.v[l]));
    } else {
        store<W>(a.partials + p.block * g.padded + p.column, sum);
    }
}

__global__ void __launch_bounds__(kColumnThreads) combine(ColumnSumArgs a, ColumnGrid g) {
    const Index j = thread_number();
    if (j < a.cols) write_column_sum(a, j, sum_blocks(a.partials, g, j));
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
