// The rows of a batch, from where they lie in the data set, as float32 side by side: a thread an element,
// neighbours in a row.
#include "cuda/columns.h"
#include "cuda/entries.h"
#include "cuda/numbers.h"

namespace fastnn {
namespace {

__global__ void __launch_bounds__(kThreads) gather(GatherArgs g) {
    const RowPlace p = row_place<1>(g.cols);
    if (p.row >= g.rows || (g.halted != nullptr && *g.halted)) return;
    const RowSource& from = *g.source;
    const Index row = from.order.rows != nullptr ? from.order.rows[g.first + p.row] : g.first + p.row;
    g.y[p.row * g.cols + p.column] = number_at<float>(from.data, from.number, row * from.row + p.column);
}

}  // namespace

int cuda_gather(const GatherArgs& g, void* stream) {
    if (g.rows == 0 || g.cols == 0) return 0;
    FASTNN_LAUNCH(gather, row_blocks(g.rows, g.cols, 1), kThreads, stream, g);
    return launched();
}

}  // namespace fastnn
