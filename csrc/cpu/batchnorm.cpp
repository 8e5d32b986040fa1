// Batch-norm forward: y = activation((x - mean) * (rstd * gamma) + beta) over the columns of x.
//
// The statistics of a block of kStatRows rows are two sums, of d and of d^2, with d = x - shift and shift the
// mean of sixteen of its rows: so near to the block's mean that the sums cancel little, for any data but
// those where just these rows lie far from all others (docs/numerics.md). One row as the shift may be an
// outlier: rstd was off by 3e-6. A first pass for the exact mean costs a third of the forward pass. Blocks
// are combined in order in double. x - mean comes before the scaling. Evaluation is the same last pass with
// the running statistics.
#include "core/sums.h"
#include "cpu/activate.h"
#include "cpu/columns.h"
#include "cpu/entries.h"

namespace fastnn::FASTNN_NS {
namespace {

// The partial statistics of one block of rows.
struct Moments {
    float* shift;
    float* sum;      // of x - shift
    float* squares;  // of (x - shift)^2
};

Moments moments_of(const BatchNormArgs& a, const ColumnPlan& p, Index block) {
    const Index plane = p.blocks * p.padded;
    float* const first = beside(a.partials, a.x, a.x_row) + block * p.padded;
    return {first, first + plane, first + 2 * plane};
}

// The mean of kShiftRows rows of the block, or of all if it has no more.
FASTNN_FLAT void find_shift(const BatchNormArgs a, const Block block, float* shift) {
    const Index rows = block.rows.end - block.rows.begin;
    const Index count = least(rows, kShiftRows);
    const Vec inverse = splat(1.0f / static_cast<float>(count));
    each_vec(block.columns, [&](Index j, int lanes) FASTNN_BODY {
        Vec sum = splat(0.0f);
        for (Index i = 0; i < count; ++i) {
            const Index row = rows > kShiftRows ? kShiftRow[i] * rows / kStatRows : i;
            sum = sum + vload(a.x + (block.rows.begin + row) * a.x_row + j, lanes);
        }
        vstore(shift + j, sum * inverse, lanes);
    });
}

FASTNN_FLAT void reduce(const BatchNormArgs a, const ColumnPlan p, const Block block) {
    each_stat_block(block, [&](const Block& rows, Index index) FASTNN_BODY {
        const Moments m = moments_of(a, p, index);
        find_shift(a, rows, m.shift);
        float* const partials[] = {m.sum, m.squares};
        reduce_rows(rows, a.x, a.x_row, partials,
                    [&](Index r, auto n, Index j, int lanes, Vec(&sums)[2]) FASTNN_BODY {
                        const Vec shift = vload(m.shift + j, lanes);
                        Vec d[n];
                        unroll<n>([&](auto i) FASTNN_BODY {
                            d[i] = vload(a.x + (r + i) * a.x_row + j, lanes) - shift;
                        });
                        const auto of = [&](int i) FASTNN_BODY { return d[i]; };
                        sums[0] = sums[0] + sum_of<n>(of);
                        sums[1] = sums[1] + sum_of_products<n>(of, of);
                    });
    });
}

// mean and rstd of the columns, and the running statistics. With e = shift - reference, the sums of a block
// of n rows about the reference are sum + n e and squares + e (2 sum + n e); the reference is the first
// shift.
void combine(const BatchNormArgs& a, const ColumnPlan& p, Range columns) {
    const double inverse = 1.0 / static_cast<double>(a.rows);
    const double averaged = averaged_share(a);
    const double w = a.momentum;
    each_vec(columns, [&](Index j, int lanes) FASTNN_BODY {
        const Wide reference = load_wide(moments_of(a, p, 0).shift + j, lanes);
        Wide sum{};
        Wide squares{};
        for (Index block = 0; block < p.blocks; ++block) {
            const Moments m = moments_of(a, p, block);
            const double rows = static_cast<double>(least(kStatRows, a.rows - block * kStatRows));
            for (int i = 0; i < lanes; ++i) {  // the next columns may be another thread's
                const double e = static_cast<double>(m.shift[j + i]) - reference.v[i];
                add_moments(rows, e, static_cast<double>(m.sum[j + i]), static_cast<double>(m.squares[j + i]),
                            sum.v[i], squares.v[i]);
            }
        }
        Wide mean, variance, rstd;
        for (int i = 0; i < kLanes; ++i) {
            const double offset = sum.v[i] * inverse;
            variance.v[i] = squares_about_mean(sum.v[i], squares.v[i], offset);
            mean.v[i] = reference.v[i] + offset;
            rstd.v[i] = 1.0 / __builtin_sqrt(variance.v[i] * inverse + static_cast<double>(a.eps));
        }
        store_wide(a.mean + j, mean, lanes);
        store_wide(a.rstd + j, rstd, lanes);
        if (a.running_mean != nullptr) {
            Wide moved_mean = load_wide(a.running_mean + j, lanes);
            Wide moved_var = load_wide(a.running_var + j, lanes);
            for (int i = 0; i < kLanes; ++i) {
                moved_mean.v[i] = moved(moved_mean.v[i], mean.v[i], w);
                moved_var.v[i] = moved(moved_var.v[i], variance.v[i] * averaged, w);
            }
            store_wide(a.running_mean + j, moved_mean, lanes);
            store_wide(a.running_var + j, moved_var, lanes);
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
void activate_rows(const BatchNormArgs a, const Block block) {
    float* const y = a.y + block.rows.begin * a.y_row + block.columns.begin;
    activate(a.activation, default_alpha(a.activation),
             {.x = y,
              .x_row = a.y_row,
              .y = y,
              .y_row = a.y_row,
              .rows = block.rows.end - block.rows.begin,
              .cols = block.columns.end - block.columns.begin});
}

// y = activation(d scale + beta), d = x - mean
enum { kMean, kScale, kBeta };
using Factors = FactorsOf<3>;

FASTNN_FLAT void apply(const BatchNormArgs a, const Block block) {
    const bool other = a.activation != Activation::none && a.activation != Activation::relu;
    const auto factors = [&](Index j, int lanes) FASTNN_BODY {
        return Factors{{vload(a.mean + j, lanes), vload(a.rstd + j, lanes) * vload(a.gamma + j, lanes),
                        vload(a.beta + j, lanes)}};
    };
    const auto centred = [&](const Factors& f, Index r, Index j, int lanes)
                             FASTNN_BODY { return vload(a.x + r * a.x_row + j, lanes) - f.of[kMean]; };
    const auto over = [&](auto finish) FASTNN_BODY {
        const auto put = [&](const Factors& f, const Vec& d, Index r, Index j, int lanes) FASTNN_BODY {
            vstore(a.y + r * a.y_row + j, finish(fma(d, f.of[kScale], f.of[kBeta])), lanes);
        };
        if (!other && a.x_row == a.cols && a.y_row == a.cols && is_run(a.rows, a.cols))
            return each_of_run(block.rows, a.cols, a.y, factors, centred, put);
        each_with_factors<kWhole ? 1 : 4>(block, a.y, a.y_row, factors, centred, put,
                                          [&](const Range& rows) FASTNN_BODY {
                                              if (other) activate_rows(a, {rows, block.columns});
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
    each_block_of_slab(p, chunk, a.y, a.y_row, [&](const Block& block) {
        if (a.training) {
            reduce(a, p, block);
            combine(a, p, block.columns);
        } else {
            running_moments(a, block.columns);
        }
        apply(a, block);
    });
}

void batch_norm_combine(const BatchNormArgs& a, int chunk, Scratch&) {
    const ColumnPlan p = column_plan(a.rows, a.cols);
    if (a.training)
        combine(a, p, combined_by(p, chunk));
    else
        running_moments(a, combined_by(p, chunk));
}

void batch_norm_apply(const BatchNormArgs& a, int chunk, Scratch&) {
    apply(a, apply_block_of(column_plan(a.rows, a.cols), chunk));
}

}  // namespace fastnn::FASTNN_NS
