// What every product does with its sums on their way out, and what it does beside.
#pragma once

#include "cuda/activate.h"
#include "cuda/columns.h"
#include "cuda/gemm_tiles.h"

namespace fastnn {

// dy * f'(from), as cuda/activation.cu forms it.
#define FASTNN_SLOPE(name)                                                                           \
    case Activation::name: {                                                                         \
        constexpr Activation kKind = Activation::name;                                               \
        const bool again = derivative_of_result(kKind) && s.from_x;                                  \
        return activate_backward<kKind>(dy, again ? activate<kKind>(from, s.alpha) : from, s.alpha); \
    }
FASTNN_RULE float slope_any(const Slope& s, float dy, float from) {
    FASTNN_EACH_KIND(s.kind, FASTNN_SLOPE)
    return dy;
}
#undef FASTNN_SLOPE

// What is cheap is done while a sum is in a register: bias, ReLU and its gradient.
struct CheapEnd {
    bool relu, slope;
};
FASTNN_RULE CheapEnd cheap_end(const GemmArgs& g, const Slope& s) {
    return {g.activation == Activation::relu, s.from != nullptr && s.kind == Activation::relu && !s.from_x};
}
FASTNN_RULE float end_cheaply(const GemmArgs& g, const Slope& s, CheapEnd cheap, float x, Index r, Index c) {
    if (g.bias != nullptr) x = x + g.bias[c];
    if (cheap.relu) x = relu(x);
    if (cheap.slope) x = relu_gradient(x, s.from[r * g.n + c]);
    return x;
}
// The rest in place, one element after another: unrolled it would push the sums out of the registers.
FASTNN_RULE bool has_rest(const GemmArgs& g, const Slope& s, CheapEnd cheap) {
    return (g.activation != Activation::none && !cheap.relu) || (s.from != nullptr && !cheap.slope);
}
FASTNN_RULE float rest_of_end(const GemmArgs& g, const Slope& s, CheapEnd cheap, float x, Index r, Index c) {
    if (!cheap.relu) x = activate_any(g.activation, x);
    if (s.from != nullptr && !cheap.slope) x = slope_any(s, x, s.from[r * g.n + c]);
    return x;
}

// The column sums beside a product have blocks of their own, behind those of its tiles: 32 columns each, of
// which every warp takes another kStatRows rows.
inline constexpr int kSumColumns = 32;
inline unsigned blocks_of_sums(const ColumnSumArgs& a) {
    return a.out != nullptr ? blocks_for(a.cols, kSumColumns) : 0;
}
// `partial`: shared, a float for each thread.
FASTNN_RULE void sum_columns(const ColumnSumArgs& a, unsigned block, float* partial) {
    const int lane = static_cast<int>(threadIdx.x) % kSumColumns;
    const int warp = static_cast<int>(threadIdx.x) / kSumColumns;
    const Index together = Index{blockDim.x} / kSumColumns * kStatRows;
    const Index column = Index{block} * kSumColumns + lane;
    double total = 0.0;
    for (Index first = 0; first < a.rows; first += together) {
        ColumnPlace p{.column = column, .block = 0, .begin = first + warp * kStatRows, .end = 0};
        p.end = p.begin + kStatRows < a.rows ? p.begin + kStatRows : a.rows;
        partial[threadIdx.x] = column < a.cols ? column_sums<1>(a, p).v[0] : 0.0f;
        __syncthreads();
        if (warp == 0)
            for (Index i = 0; first + i * kStatRows < a.rows && i * kStatRows < together; ++i)
                total += static_cast<double>(partial[i * kSumColumns + lane]);
        __syncthreads();  // before the next rows' sums
    }
    if (warp == 0 && column < a.cols) write_column_sum(a, column, total);
}

}  // namespace fastnn
