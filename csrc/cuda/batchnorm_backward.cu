// Batch-norm backward. With dy' = dy where the activation passed and d = x - mean:
//   dbeta = sum dy', dgamma = rstd * sum dy' d, dx = gamma rstd (dy' - dbeta / n - d rstd dgamma / n).
// The sums have the order of cpu/batchnorm_backward.cpp; dy' is formed anew in each of the two passes.
#include "core/sums.h"
#include "cuda/activate.h"
#include "cuda/columns.h"
#include "cuda/entries.h"

namespace fastnn {
namespace {

// dy * activation'(y): one switch for the W columns.
template <int W>
FASTNN_RULE Pack<W> passed(const BatchNormBackwardArgs& a, Index row, Index column) {
    Pack<W> dy = load<W>(a.dy + row * a.dy_row + column);
    if (a.activation == Activation::none) return dy;
    const Pack<W> y = load<W>(a.y + row * a.y_row + column);
#define FASTNN_CASE(name)                                                                                  \
    case Activation::name:                                                                                 \
        if constexpr (derivative_of_result(Activation::name)) {                                            \
            for (int l = 0; l < W; ++l)                                                                    \
                dy.v[l] =                                                                                  \
                    activate_backward<Activation::name>(dy.v[l], y.v[l], default_alpha(Activation::name)); \
        }                                                                                                  \
        break;
    FASTNN_EACH_KIND(a.activation, FASTNN_CASE)
#undef FASTNN_CASE
    return dy;
}

FASTNN_RULE void finish(const BatchNormBackwardArgs& a, Index j, double products, double plain) {
    const float dgamma = static_cast<float>(products * static_cast<double>(a.rstd[j]));
    const float dbeta = static_cast<float>(plain);
    a.sums[j] = dgamma;
    a.sums[a.cols + j] = dbeta;
    a.dgamma[j] = a.accumulate ? a.dgamma[j] + dgamma : dgamma;
    a.dbeta[j] = a.accumulate ? a.dbeta[j] + dbeta : dbeta;
}

// kAlone: there are no other blocks of rows.
template <int W, bool kAlone>
__global__ void __launch_bounds__(kColumnThreads) reduce(BatchNormBackwardArgs a, ColumnGrid g) {
    const ColumnPlace p = column_place<W>(g);
    if (p.begin == p.end) return;
    const Pack<W> mean = load<W>(a.mean + p.column);
    const auto x = [&](Index row) { return load<W>(a.x + row * a.x_row + p.column); };
    const auto dy = [&](Index row) { return passed<W>(a, row, p.column); };
    Pack<W> products{}, plain{};
    each_four_rows(
        p,
        [&](Index r) {
            const Pack<W> x0 = x(r), x1 = x(r + 1), x2 = x(r + 2), x3 = x(r + 3);
            const Pack<W> y0 = dy(r), y1 = dy(r + 1), y2 = dy(r + 2), y3 = dy(r + 3);
#pragma unroll
            for (int l = 0; l < W; ++l) {
                const float m = mean.v[l];
                const float first = fma(y1.v[l], x1.v[l] - m, y0.v[l] * (x0.v[l] - m));
                products.v[l] += first + fma(y3.v[l], x3.v[l] - m, y2.v[l] * (x2.v[l] - m));
                plain.v[l] += (y0.v[l] + y1.v[l]) + (y2.v[l] + y3.v[l]);
            }
        },
        [&](Index r) {
            const Pack<W> x0 = x(r), y0 = dy(r);
#pragma unroll
            for (int l = 0; l < W; ++l) {
                products.v[l] += y0.v[l] * (x0.v[l] - mean.v[l]);
                plain.v[l] += y0.v[l];
            }
        });
    if constexpr (kAlone) {
#pragma unroll
        for (int l = 0; l < W; ++l)
            finish(a, p.column + l, static_cast<double>(products.v[l]), static_cast<double>(plain.v[l]));
    } else {
        const Index at = p.block * g.padded + p.column;
        store<W>(a.partials + at, products);
        store<W>(a.partials + g.blocks * g.padded + at, plain);
    }
}

__global__ void __launch_bounds__(kColumnThreads) combine(BatchNormBackwardArgs a, ColumnGrid g) {
    const Index j = thread_number();
    if (j >= a.cols) return;
    const double plain = sum_blocks(a.partials + g.blocks * g.padded, g, j);
    finish(a, j, sum_blocks(a.partials, g, j), plain);
}

template <int W>
__global__ void __launch_bounds__(kThreads) apply(BatchNormBackwardArgs a, float inverse) {
    const RowPlace p = row_place<W>(a.cols);
    if (p.row >= a.rows) return;
    const Pack<W> x = load<W>(a.x + p.row * a.x_row + p.column);
    const Pack<W> dy = passed<W>(a, p.row, p.column);
    const Pack<W> mean = load<W>(a.mean + p.column), rstd = load<W>(a.rstd + p.column);
    const Pack<W> gamma = load<W>(a.gamma + p.column);
    const Pack<W> dgamma = load<W>(a.sums + p.column), dbeta = load<W>(a.sums + a.cols + p.column);
    Pack<W> dx;
#pragma unroll
    for (int l = 0; l < W; ++l) {
        const float product = 0.0f - rstd.v[l] * (dgamma.v[l] * inverse);
        const float t = fma(x.v[l] - mean.v[l], product, dy.v[l] - dbeta.v[l] * inverse);
        dx.v[l] = rstd.v[l] * gamma.v[l] * t;
    }
    store<W>(a.dx + p.row * a.dx_row + p.column, dx);
}

template <int W>
void all_phases(const BatchNormBackwardArgs& a, void* stream) {
    const ColumnGrid g = column_grid(a.rows, a.cols);
    if (g.blocks == 1) {
        FASTNN_LAUNCH((reduce<W, true>), reduce_blocks(g, W), kColumnThreads, stream, a, g);
    } else {
        if (a.rows > 0) FASTNN_LAUNCH((reduce<W, false>), reduce_blocks(g, W), kColumnThreads, stream, a, g);
        FASTNN_LAUNCH(combine, blocks_for(a.cols, kColumnThreads), kColumnThreads, stream, a, g);
    }
    if (a.rows == 0 || a.dx == nullptr) return;
    const float inverse = static_cast<float>(1.0 / static_cast<double>(a.rows));
    FASTNN_LAUNCH(apply<W>, row_blocks(a.rows, a.cols, W), kThreads, stream, a, inverse);
}

}  // namespace

int cuda_batch_norm_backward(const BatchNormBackwardArgs& a, void* stream) {
    if (a.cols == 0) return 0;
    const float* const y = a.activation == Activation::none ? nullptr : a.y;
    const Index y_row = y == nullptr ? 0 : a.y_row;
    const Index dx_row = a.dx == nullptr ? 0 : a.dx_row;
    if (aligned(a.dy, a.x, y, a.dx, a.gamma, a.mean, a.rstd, a.sums, a.partials) &&
        in_fours(a.dy_row, a.x_row, y_row, dx_row, a.cols))
        all_phases<4>(a, stream);
    else
        all_phases<1>(a, stream);
    return launched();
}

}  // namespace fastnn
