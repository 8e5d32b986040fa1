// out[j] = sum over the rows of x[i, j]: the gradient of a bias.
#include "cuda/columns.h"
#include "cuda/entries.h"

namespace fastnn {
namespace {

template <int W>
__global__ void __launch_bounds__(kColumnThreads) reduce(ColumnSumArgs a, ColumnGrid g) {
    const ColumnPlace p = column_place<W>(g);
    if (p.begin == p.end) return;
    store<W>(a.partials + p.block * g.padded + p.column, column_sums<W>(a, p));
}

__global__ void __launch_bounds__(kColumnThreads) combine(ColumnSumArgs a, ColumnGrid g) {
    const Index j = thread_number();
    if (j >= a.cols) return;
    const float total = static_cast<float>(sum_blocks(a.partials, g, j));
    a.out[j] = (a.accumulate ? a.out[j] : 0.0f) + total;
}

}  // namespace

int cuda_column_sum(const ColumnSumArgs& a, void* stream) {
    if (a.cols == 0) return 0;
    const ColumnGrid g = column_grid(a.rows, a.cols);
    if (a.rows > 0) {
        if (aligned(a.x, a.partials) && in_fours(a.x_row, a.cols))
            FASTNN_LAUNCH(reduce<4>, reduce_blocks(g, 4), kColumnThreads, stream, a, g);
        else
            FASTNN_LAUNCH(reduce<1>, reduce_blocks(g, 1), kColumnThreads, stream, a, g);
    }
    FASTNN_LAUNCH(combine, blocks_for(a.cols, kColumnThreads), kColumnThreads, stream, a, g);
    return launched();
}

}  // namespace fastnn
