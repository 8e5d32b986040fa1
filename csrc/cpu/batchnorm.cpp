// Batch-norm forward: y = activation((x - mean) * (rstd * gamma) + beta) over the columns of x.
//
// A block of kStatRows rows is read twice while it lies in L1: for its mean, about its first row (no
// cancellation for data far from zero), then for the sum of squares about that mean. One pass about the first
// row is off by its distance from the mean squared: rstd by 3.3e-6 where it lies far out, against 3e-7.
// Blocks are combined in order by Chan's formula in double. x - mean comes before the scaling. Evaluation is
// the same last pass with the running statistics.
#include "cpu/activate.h"
#include "cpu/columns.h"
#include "cpu/entries.h"

namespace fastnn::FASTNN_NS {
namespace {

// Columns whose block of rows stays in L1 between the two passes.
constexpr Index kL1Columns = 96;

// The partial statistics of one block of rows.
struct Moments {
    float* mean;     // rounded
    float* rest;     // what rounding took from it
    float* squares;  // sum of squares about mean + rest
};

Moments moments_of(const BatchNormArgs& a, const ColumnPlan& p, Index block) {
    const Index plane = p.blocks * p.padded;
    float* const first = a.partials + block * p.padded;
    return {first, first + plane, first + 2 * plane};
}

FASTNN_FLAT void reduce_block(const BatchNormArgs& a, const Block& block, const Moments& out) {
    const Vec inverse = splat(1.0f / static_cast<float>(block.rows.end - block.rows.begin));
    const float* const shift = a.x + block.rows.begin * a.x_row;
    float* const sum[] = {out.mean};
    reduce_rows(block, sum, [&](Index r, Index j, int lanes, Vec(&s)[1]) FASTNN_BODY {
        s[0] = s[0] + (vload(a.x + r * a.x_row + j, lanes) - vload(shift + j, lanes));
    });
    each_vec(block.columns, [&](Index j, int lanes) FASTNN_BODY {
        vstore(out.mean + j, fma(vload(out.mean + j), inverse, vload(shift + j, lanes)));
    });
    float* const sums[] = {out.rest, out.squares};
    reduce_rows(block, sums, [&](Index r, Index j, int lanes, Vec(&s)[2]) FASTNN_BODY {
        const Vec d = vload(a.x + r * a.x_row + j, lanes) - vload(out.mean + j);
        s[0] = s[0] + d;
        s[1] = fma(d, d, s[1]);
    });
    each_vec(block.columns, [&](Index j, int) FASTNN_BODY {
        const Vec s = vload(out.rest + j);
        const Vec rest = s * inverse;
        vstore(out.rest + j, rest);
        vstore(out.squares + j, vload(out.squares + j) - s * rest);
    });
}

void reduce(const BatchNormArgs& a, const ColumnPlan& p, const Block& block) {
    each_stat_block(block, [&](const Block& part, Index index) FASTNN_BODY {
        for (Index j = part.columns.begin; j < part.columns.end; j += kL1Columns)
            reduce_block(a, {part.rows, {j, least(j + kL1Columns, part.columns.end)}},
                         moments_of(a, p, index));
    });
}

// mean and rstd of the columns, and the running statistics.
void combine(const BatchNormArgs& a, const ColumnPlan& p, Range columns) {
    const double n = static_cast<double>(a.rows);
    each_vec(columns, [&](Index j, int lanes) FASTNN_BODY {
        Wide mean{};
        Wide square{};
        for (Index block = 0; block < p.blocks; ++block) {
            const Index r0 = block * kStatRows;
            const double before = static_cast<double>(r0);
            const double after = static_cast<double>(r0 + kStatRows < a.rows ? r0 + kStatRows : a.rows);
            const double weight = (after - before) / after;
            const double spread = before * weight;
            const Moments m = moments_of(a, p, block);
            for (int i = 0; i < kLanes; ++i) {
                const double block_mean =
                    static_cast<double>(m.mean[j + i]) + static_cast<double>(m.rest[j + i]);
                const double delta = block_mean - mean.v[i];
                mean.v[i] += delta * weight;
                square.v[i] += static_cast<double>(m.squares[j + i]) + delta * delta * spread;
            }
        }
        for (int i = 0; i < lanes; ++i) {
            // Rounding may leave a constant column a hair below zero.
            const double sum = square.v[i] < 0.0 ? 0.0 : square.v[i];
            a.mean[j + i] = static_cast<float>(mean.v[i]);
            a.rstd[j + i] = static_cast<float>(1.0 / __builtin_sqrt(sum / n + static_cast<double>(a.eps)));
            if (a.running_mean != nullptr) {
                const double w = static_cast<double>(a.momentum);
                float& rm = a.running_mean[j + i];
                float& rv = a.running_var[j + i];
                rm = static_cast<float>((1.0 - w) * static_cast<double>(rm) + w * mean.v[i]);
                rv = static_cast<float>((1.0 - w) * static_cast<double>(rv) + w * (sum / (n - 1.0)));
            }
        }
    });
}

void running_moments(const BatchNormArgs& a, Range columns) {
    for (Index j = columns.begin; j < columns.end; ++j) {
        a.mean[j] = a.running_mean[j];
        const double var = static_cast<double>(a.running_var[j]);
        a.rstd[j] = static_cast<float>(1.0 / __builtin_sqrt(var + static_cast<double>(a.eps)));
    }
}

// An activation other than ReLU, in place, while the rows lie in L1.
void activate_rows(const BatchNormArgs& a, const Block& block) {
    float* const y = a.y + block.rows.begin * a.y_row + block.columns.begin;
    activate(a.activation, default_alpha(a.activation),
             {.x = y,
              .x_row = a.y_row,
              .y = y,
              .y_row = a.y_row,
              .rows = block.rows.end - block.rows.begin,
              .cols = block.columns.end - block.columns.begin});
}

FASTNN_FLAT void apply(const BatchNormArgs& a, const Block& block) {
    const bool other = a.activation != Activation::none && a.activation != Activation::relu;
    const auto over = [&](auto finish) FASTNN_BODY {
        each_quad(block.rows, [&](Index r, auto n) FASTNN_BODY {
            each_vec(block.columns, [&](Index j, int lanes) FASTNN_BODY {
                const Vec mean = vload(a.mean + j, lanes);
                const Vec scale = vload(a.rstd + j, lanes) * vload(a.gamma + j, lanes);
                const Vec beta = vload(a.beta + j, lanes);
                unroll<n>([&](auto i) FASTNN_BODY {
                    const Vec x = vload(a.x + (r + i) * a.x_row + j, lanes);
                    vstore(a.y + (r + i) * a.y_row + j, finish(fma(x - mean, scale, beta)), lanes);
                });
            });
            if (other) activate_rows(a, {{r, r + n}, block.columns});
        });
    };
    if (a.activation == Activation::relu)
        over([](const Vec& v) FASTNN_BODY { return max_(splat(0.0f), v); });
    else
        over([](const Vec& v) FASTNN_BODY { return v; });
}

}  // namespace

int batch_norm_reduce_chunks(const BatchNormArgs& a) {
    return a.training || column_plan(a.rows, a.cols).slabs ? phase_chunks(a.rows, a.cols, 0) : 0;
}
int batch_norm_combine_chunks(const BatchNormArgs& a) { return phase_chunks(a.rows, a.cols, 1); }
int batch_norm_apply_chunks(const BatchNormArgs& a) { return phase_chunks(a.rows, a.cols, 2); }

void batch_norm_reduce(const BatchNormArgs& a, int chunk, Scratch&) {
    const ColumnPlan p = column_plan(a.rows, a.cols);
    if (!p.slabs) {
        reduce(a, p, group_of(p, chunk));
        return;
    }
    const Block slab{{0, a.rows}, slab_of(p, chunk)};
    if (a.training) {
        reduce(a, p, slab);
        combine(a, p, slab.columns);
    } else {
        running_moments(a, slab.columns);
    }
    apply(a, slab);
}

void batch_norm_combine(const BatchNormArgs& a, int chunk, Scratch&) {
    const ColumnPlan p = column_plan(a.rows, a.cols);
    if (a.training)
        combine(a, p, slab_of(p, chunk));
    else
        running_moments(a, slab_of(p, chunk));
}

void batch_norm_apply(const BatchNormArgs& a, int chunk, Scratch&) {
    apply(a, group_of(column_plan(a.rows, a.cols), chunk));
}

}  // namespace fastnn::FASTNN_NS
