// y = (x - shift) * scale + offset by column. x - shift is formed in double, as on the CPU.
#include "cuda/columns.h"
#include "cuda/entries.h"
#include "cuda/numbers.h"

namespace fastnn {
namespace {

template <class T, int W>
__global__ void __launch_bounds__(kThreads) scale(ScaleColumnsArgs a) {
    const RowPlace p = row_place<W>(a.cols);
    if (p.row >= a.rows) return;
    const Pack<W, T> x = load_anywhere<W>(static_cast<const T*>(a.x) + p.row * a.x_row + p.column);
    const Pack<W, double> shift = a.shift != nullptr ? load<W>(a.shift + p.column) : splat<W>(0.0);
    const Pack<W> factor = load<W>(a.scale + p.column);
    // -0 keeps the sign of a zero.
    const Pack<W> offset = a.offset != nullptr ? load<W>(a.offset + p.column) : splat<W>(-0.0f);
    Pack<W> y;
#pragma unroll
    for (int l = 0; l < W; ++l) {
        const double gap = static_cast<double>(x.v[l]) - shift.v[l];
        y.v[l] = fma(static_cast<float>(gap), factor.v[l], offset.v[l]);
    }
    store(a.y + p.row * a.y_row + p.column, y);
}

__global__ void __launch_bounds__(kThreads) widen(WidenArgs a) {
    const Index i = thread_number();
    if (i < a.n) a.y[i] = static_cast<double>(a.x[i]);
}

template <int W>
void start(const ScaleColumnsArgs& a, void* stream) {
    const unsigned blocks = row_blocks(a.rows, a.cols, W);
    switch (a.element) {
        case Element::float32:
            FASTNN_LAUNCH((scale<float, W>), blocks, kThreads, stream, a);
            break;
        case Element::float64:
            FASTNN_LAUNCH((scale<double, W>), blocks, kThreads, stream, a);
            break;
        case Element::uint8:
            FASTNN_LAUNCH((scale<std::uint8_t, W>), blocks, kThreads, stream, a);
            break;
    }
}

// Four columns at a time; x may begin and be strided as it likes.
bool in_packs(const ScaleColumnsArgs& a) {
    return aligned(a.y, a.shift, a.scale, a.offset) && in_fours(a.cols, a.y_row);
}

}  // namespace

int cuda_scale_columns(const ScaleColumnsArgs& a, void* stream) {
    if (a.rows == 0 || a.cols == 0) return 0;
    if (in_packs(a))
        start<4>(a, stream);
    else
        start<1>(a, stream);
    return launched();
}

int cuda_widen(const WidenArgs& a, void* stream) {
    if (a.n == 0) return 0;
    FASTNN_LAUNCH(widen, blocks_for(a.n, kThreads), kThreads, stream, a);
    return launched();
}

}  // namespace fastnn
