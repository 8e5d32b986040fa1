// y = (x - shift) * scale + offset by column. x - shift is formed in double, as on the CPU.
#include "cuda/columns.h"
#include "cuda/entries.h"

namespace fastnn {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads) scale(ScaleColumnsArgs a) {
    const RowPlace p = row_place<1>(a.cols);
    if (p.row >= a.rows) return;
    const auto x = static_cast<double>(static_cast<const T*>(a.x)[p.row * a.x_row + p.column]);
    const double shift = a.shift != nullptr ? a.shift[p.column] : 0.0;
    const float offset = a.offset != nullptr ? a.offset[p.column] : -0.0f;  // which keeps the sign of a zero
    a.y[p.row * a.y_row + p.column] = fma(static_cast<float>(x - shift), a.scale[p.column], offset);
}

__global__ void __launch_bounds__(kThreads) widen(WidenArgs a) {
    const Index i = thread_number();
    if (i < a.n) a.y[i] = static_cast<double>(a.x[i]);
}

}  // namespace

int cuda_scale_columns(const ScaleColumnsArgs& a, void* stream) {
    if (a.rows == 0 || a.cols == 0) return 0;
    const unsigned blocks = row_blocks(a.rows, a.cols, 1);
    switch (a.element) {
        case Element::float32:
            FASTNN_LAUNCH(scale<float>, blocks, kThreads, stream, a);
            break;
        case Element::float64:
            FASTNN_LAUNCH(scale<double>, blocks, kThreads, stream, a);
            break;
        case Element::uint8:
            FASTNN_LAUNCH(scale<std::uint8_t>, blocks, kThreads, stream, a);
            break;
    }
    return launched();
}

int cuda_widen(const WidenArgs& a, void* stream) {
    if (a.n == 0) return 0;
    FASTNN_LAUNCH(widen, blocks_for(a.n, kThreads), kThreads, stream, a);
    return launched();
}

}  // namespace fastnn
