// The rows of a batch, from where they lie in the data set, as float32 side by side: a thread has W
// neighbours of a row. What the rows are and where they begin is known on the device alone.
#include "cuda/columns.h"
#include "cuda/entries.h"
#include "cuda/numbers.h"

namespace fastnn {
namespace {

template <int W>
__global__ void __launch_bounds__(kThreads) gather(GatherArgs g) {
    const RowPlace p = row_place<W>(g.cols);
    if (p.row >= g.rows || (g.halted != nullptr && *g.halted)) return;
    const RowSource& from = *g.source;
    const Index row = from.order.rows != nullptr ? from.order.rows[g.first + p.row] : g.first + p.row;
    const auto numbers = [&](const auto* data) {
        const auto x = load_anywhere<W>(data + row * from.row + p.column);
        Pack<W> y;
#pragma unroll
        for (int l = 0; l < W; ++l) y.v[l] = static_cast<float>(x.v[l]);
        return y;
    };
    store(g.y + p.row * g.cols + p.column, with_numbers(from.data, from.number, numbers));
}

template <int W>
void start(const GatherArgs& g, void* stream) {
    FASTNN_LAUNCH(gather<W>, row_blocks(g.rows, g.cols, W), kThreads, stream, g);
}

}  // namespace

int cuda_gather(const GatherArgs& g, void* stream) {
    if (g.rows == 0 || g.cols == 0) return 0;
    if (aligned(g.y) && in_fours(g.cols))
        start<4>(g, stream);
    else
        start<1>(g, stream);
    return launched();
}

}  // namespace fastnn
