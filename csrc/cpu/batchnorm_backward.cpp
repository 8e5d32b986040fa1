// Batch-norm backward. With dy' = dy where the activation passed and d = x - mean:
//   dbeta = sum dy', dgamma = rstd * sum dy' d, dx = gamma rstd (dy' - dbeta / n - d rstd dgamma / n).
#include "cpu/activate.h"
#include "cpu/columns.h"
#include "cpu/entries.h"

namespace fastnn::FASTNN_NS {
namespace {

// dy', masked by y for ReLU.
template <bool kRelu>
FASTNN_INLINE Vec passed(const float* dy, const float* y, int lanes) {
    if constexpr (kRelu)
        return keep_positive(vload(y, lanes), vload(dy, lanes));
    else
        return vload(dy, lanes);
}

template <bool kRelu>
FASTNN_INLINE const float* mask(const BatchNormBackwardArgs& a, Index r, Index j) {
    return kRelu ? a.y + r * a.y_row + j : nullptr;
}

// A row's address that is formed where it is used, from that of another row: gcc keeps a pointer for each of
// sixteen or 24 rows, which go through the stack and through vector registers.
FASTNN_INLINE const float* formed_here(const float* row) {
    if constexpr (kWhole) __asm__("" : "+r"(row));
    return row;
}

template <bool kRelu>
FASTNN_FLAT void reduce(const BatchNormBackwardArgs a, const ColumnPlan p, const Block block) {
    each_stat_block(block, [&](const Block& rows, Index index) FASTNN_BODY {
        float* const products = beside(a.partials, a.x, a.x_row) + index * p.padded;
        float* const partials[] = {products, products + p.blocks * p.padded};
        reduce_rows(rows, a.x, a.x_row, partials,
                    [&](Index r, auto n, Index j, int lanes, Vec(&sums)[2]) FASTNN_BODY {
                        const Vec mean = vload(a.mean + j, lanes);
                        const float* x = a.x + r * a.x_row + j;
                        const float* dy = a.dy + r * a.dy_row + j;
                        const float* y = mask<kRelu>(a, r, j);
                        if constexpr (n == 1) {
                            const Vec one = passed<kRelu>(dy, y, lanes);
                            sums[0] = sums[0] + one * (vload(x, lanes) - mean);
                            sums[1] = sums[1] + one;
                        } else {  // two rows at a time: four would not fit sixteen registers
                            Vec product[2], plain[2];
                            unroll<2>([&](auto pair) FASTNN_BODY {
                                x = formed_here(x + 2 * pair * a.x_row);
                                dy = formed_here(dy + 2 * pair * a.dy_row);
                                if constexpr (kRelu) y = formed_here(y + 2 * pair * a.y_row);
                                const Vec dy0 = passed<kRelu>(dy, y, lanes);
                                const Vec d0 = vload(x, lanes) - mean;
                                const Vec dy1 = passed<kRelu>(dy + a.dy_row, kRelu ? y + a.y_row : y, lanes);
                                const Vec d1 = vload(x + a.x_row, lanes) - mean;
                                product[pair] = fma(dy1, d1, dy0 * d0);
                                plain[pair] = dy0 + dy1;
                            });
                            sums[0] = sums[0] + (product[0] + product[1]);
                            sums[1] = sums[1] + (plain[0] + plain[1]);
                        }
                    });
    });
}

void combine(const BatchNormBackwardArgs& a, const ColumnPlan& p, Range columns) {
    const float* const partials = beside(a.partials, a.x, a.x_row);
    each_vec(columns, [&](Index j, int lanes) FASTNN_BODY {
        const Wide products = sum_blocks(partials, p, j, lanes);
        const Wide plain = sum_blocks(partials + p.blocks * p.padded, p, j, lanes);
        for (int i = 0; i < lanes; ++i) {
            const float dgamma = static_cast<float>(products.v[i] * static_cast<double>(a.rstd[j + i]));
            const float dbeta = static_cast<float>(plain.v[i]);
            a.sums[j + i] = dgamma;
            a.sums[a.cols + j + i] = dbeta;
            a.dgamma[j + i] = a.accumulate ? a.dgamma[j + i] + dgamma : dgamma;
            a.dbeta[j + i] = a.accumulate ? a.dbeta[j + i] + dbeta : dbeta;
        }
    });
}

// dx = scale (d product + dy' - plain)
enum { kMean, kScale, kProduct, kPlain };
using Factors = FactorsOf<4>;

template <bool kRelu>
FASTNN_FLAT void apply(const BatchNormBackwardArgs a, const Block block) {
    const Vec inverse = splat(static_cast<float>(1.0 / static_cast<double>(a.rows)));
    const auto factors = [&](Index j, int lanes) FASTNN_BODY {
        const Vec rstd = vload(a.rstd + j, lanes);
        return Factors{{vload(a.mean + j, lanes), rstd * vload(a.gamma + j, lanes),
                        splat(0.0f) - rstd * (vload(a.sums + j, lanes) * inverse),
                        vload(a.sums + a.cols + j, lanes) * inverse}};
    };
    const auto unscaled = [&](const Factors& f, Index r, Index j, int lanes) FASTNN_BODY {
        const Vec d = vload(a.x + r * a.x_row + j, lanes) - f.of[kMean];
        const Vec dy = passed<kRelu>(a.dy + r * a.dy_row + j, mask<kRelu>(a, r, j), lanes);
        return fma(d, f.of[kProduct], dy - f.of[kPlain]);
    };
    const auto put = [&](const Factors& f, const Vec& t, Index r, Index j, int lanes)
                         FASTNN_BODY { vstore(a.dx + r * a.dx_row + j, f.of[kScale] * t, lanes); };
    const bool side_by_side =
        a.dy_row == a.cols && a.x_row == a.cols && a.dx_row == a.cols && (!kRelu || a.y_row == a.cols);
    if (side_by_side && is_run(a.rows, a.cols))
        return each_of_run(block.rows, a.cols, a.dx, factors, unscaled, put);
    // More rows at a time than two are too many streams for a Zen 3 (390 us against 280 for (512, 2048)).
    each_with_factors<kWhole ? 1 : 2>(block, a.dx, a.dx_row, factors, unscaled, put,
                                      [](const Range&) FASTNN_BODY {});
}

}  // namespace

int batch_norm_backward_reduce_chunks(const BatchNormBackwardArgs& a) {
    return phase_chunks(a.rows, a.cols, 0);
}
int batch_norm_backward_combine_chunks(const BatchNormBackwardArgs& a) {
    return phase_chunks(a.rows, a.cols, 1);
}
int batch_norm_backward_apply_chunks(const BatchNormBackwardArgs& a) {
    return a.dx != nullptr ? phase_chunks(a.rows, a.cols, 2) : 0;
}

namespace {

// Activations other than ReLU: dy' goes to dx, which the reduction and the last pass then read in place of
// dy.
bool through_dx(const BatchNormBackwardArgs& a) {
    return a.activation != Activation::none && a.activation != Activation::relu;
}

BatchNormBackwardArgs with_dx_as_dy(const BatchNormBackwardArgs& a) {
    BatchNormBackwardArgs b = a;
    b.dy = a.dx;
    b.dy_row = a.dx_row;
    b.activation = Activation::none;
    return b;
}

void activation_to_dx(const BatchNormBackwardArgs& a, const Block& block) {
    const Index r = block.rows.begin;
    const Index j = block.columns.begin;
    activate_backward(a.activation, default_alpha(a.activation),
                      {.dy = a.dy + r * a.dy_row + j,
                       .dy_row = a.dy_row,
                       .from = a.y + r * a.y_row + j,
                       .from_row = a.y_row,
                       .dx = a.dx + r * a.dx_row + j,
                       .dx_row = a.dx_row,
                       .rows = block.rows.end - r,
                       .cols = block.columns.end - j});
}

template <bool kRelu>
void reduce_block(const BatchNormBackwardArgs& a, const ColumnPlan& p, const Block& block) {
    if (through_dx(a)) {
        activation_to_dx(a, block);
        return reduce_block<false>(with_dx_as_dy(a), p, block);
    }
    reduce<kRelu>(a, p, block);
    if (!p.slabs) return;
    combine(a, p, block.columns);
    if (a.dx != nullptr) apply<kRelu>(a, block);
}

template <bool kRelu>
void reduce_chunk(const BatchNormBackwardArgs& a, int chunk) {
    const ColumnPlan p = column_plan(a.rows, a.cols);
    if (!p.slabs) return reduce_block<kRelu>(a, p, group_of(p, chunk));
    each_block_of_slab(p, chunk, a.dx, a.dx_row,
                       [&](const Block& block) { reduce_block<kRelu>(a, p, block); });
}

}  // namespace

void batch_norm_backward_reduce(const BatchNormBackwardArgs& a, int chunk, Scratch&) {
    if (a.activation == Activation::relu)
        reduce_chunk<true>(a, chunk);
    else
        reduce_chunk<false>(a, chunk);
}

void batch_norm_backward_combine(const BatchNormBackwardArgs& a, int chunk, Scratch&) {
    const ColumnPlan p = column_plan(a.rows, a.cols);
    combine(a, p, combined_by(p, chunk));
}

void batch_norm_backward_apply(const BatchNormBackwardArgs& a, int chunk, Scratch&) {
    const Block block = apply_block_of(column_plan(a.rows, a.cols), chunk);
    if (a.activation == Activation::relu)
        apply<true>(a, block);
    else
        apply<false>(through_dx(a) ? with_dx_as_dy(a) : a, block);
}

}  // namespace fastnn::FASTNN_NS
