// Batch-norm backward. With dy' = dy where the activation passed and d = x - mean:
//   dbeta = sum dy', dgamma = rstd * sum dy' d, dx = gamma rstd (dy' - dbeta / n - d rstd dgamma / n).
// The sums have the order of cpu/batchnorm_backward.cpp; dy' is formed anew in each of the two passes.
#include "cuda/entries.h"
#include "cuda/gradient_sums.h"

namespace fastnn {
namespace {

// kAlone: there are no other blocks of rows.
template <int W, bool kAlone>
__global__ void __launch_bounds__(kColumnThreads) reduce(BatchNormBackwardArgs a, ColumnGrid g) {
    const ColumnPlace p = column_place<W>(g);
    if (p.begin == p.end) return;
    const Pack<W> mean = load<W>(a.mean + p.column);
    const auto x = [&](Index row) { return load<W>(a.x + row * a.x_row + p.column); };
    const auto dy = [&](Index row) { return passed_pack<W>(a, row, p.column); };
    Pack<W> products{}, plain{};
    each_four_rows(
        p,
        [&](Index r) {
            const Pack<W> x0 = x(r), x1 = x(r + 1), x2 = x(r + 2), x3 = x(r + 3);
            const Pack<W> y0 = dy(r), y1 = dy(r + 1), y2 = dy(r + 2), y3 = dy(r + 3);
#pragma unroll
            for (int l = 0; l < W; ++l) {
                const float dy_of[] = {y0.v[l], y1.v[l], y2.v[l], y3.v[l]};
                const float x_of[] = {x0.v[l], x1.v[l], x2.v[l], x3.v[l]};
                const Sums four = gradient_of_four(dy_of, x_of, mean.v[l]);
                products.v[l] += four.products;
                plain.v[l] += four.plain;
            }
        },
        [&](Index r) {
            const Pack<W> x0 = x(r), y0 = dy(r);
#pragma unroll
            for (int l = 0; l < W; ++l) {
                const Sums one = gradient_of_one(y0.v[l], x0.v[l], mean.v[l]);
                products.v[l] += one.products;
                plain.v[l] += one.plain;
            }
        });
    if constexpr (kAlone) {
#pragma unroll
        for (int l = 0; l < W; ++l)
            finish_gradient(a, p.column + l, static_cast<double>(products.v[l]),
                            static_cast<double>(plain.v[l]));
    } else {
        const Index at = p.block * g.padded + p.column;
        store<W>(plane(a, g, 0) + at, products);
        store<W>(plane(a, g, 1) + at, plain);
    }
}

__global__ void __launch_bounds__(kColumnThreads)
    combine(const __grid_constant__ BatchNormBackwardArgs a, ColumnGrid g) {
    const Index j = thread_number();
    if (j < a.cols) finish_blocks(a, g, j);
}

template <int W>
__global__ void __launch_bounds__(kThreads) apply(BatchNormBackwardArgs a, float inverse) {
    const RowPlace p = row_place<W>(a.cols);
    if (p.row >= a.rows) return;
    const Pack<W> x = load<W>(a.x + p.row * a.x_row + p.column);
    const Pack<W> dy = passed_pack<W>(a, p.row, p.column);
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
void form(const BatchNormBackwardArgs& a, void* stream) {
    const ColumnGrid g = column_grid(a.rows, a.cols);
    if (g.blocks == 1) {
        FASTNN_LAUNCH((reduce<W, true>), reduce_blocks(g, W), kColumnThreads, stream, a, g);
    } else {
        if (a.rows > 0) FASTNN_LAUNCH((reduce<W, false>), reduce_blocks(g, W), kColumnThreads, stream, a, g);
        FASTNN_LAUNCH(combine, blocks_for(a.cols, kColumnThreads), kColumnThreads, stream, a, g);
    }
}

template <int W>
void all_phases(const BatchNormBackwardArgs& a, void* stream) {
    if (!a.formed) form<W>(a, stream);
    if (a.rows == 0 || a.dx == nullptr) return;
    const float inverse = static_cast<float>(1.0 / static_cast<double>(a.rows));
    FASTNN_LAUNCH(apply<W>, row_blocks(a.rows, a.cols, W), kThreads, stream, a, inverse);
}

bool in_packs(const BatchNormBackwardArgs& a) {
    const float* const y = a.activation == Activation::none ? nullptr : a.y;
    const Index y_row = y == nullptr ? 0 : a.y_row;
    const Index dx_row = a.dx == nullptr ? 0 : a.dx_row;
    return aligned(a.dy, a.x, y, a.dx, a.gamma, a.mean, a.rstd, a.sums, a.partials) &&
           in_fours(a.dy_row, a.x_row, y_row, dx_row, a.cols);
}

}  // namespace

int cuda_gradient_sums(const BatchNormBackwardArgs& a, void* stream) {
    if (in_packs(a))
        form<4>(a, stream);
    else
        form<1>(a, stream);
    return launched();
}

int cuda_batch_norm_backward(const BatchNormBackwardArgs& a, void* stream) {
    if (a.cols == 0) return 0;
    if (in_packs(a))
        all_phases<4>(a, stream);
    else
        all_phases<1>(a, stream);
    return launched();
}

}  // namespace fastnn
