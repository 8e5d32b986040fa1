// out[j] = sum over the rows of x[i, j]: the gradient of a bias.
#include "cpu/columns.h"
#include "cpu/entries.h"

namespace fastnn::FASTNN_NS {
namespace {

FASTNN_FLAT void reduce(const ColumnSumArgs& a, const ColumnPlan& p, const Block& block) {
    each_stat_block(block, [&](const Block& rows, Index index) FASTNN_BODY {
        float* const partials[] = {beside(a.partials, a.x, a.x_row) + index * p.padded};
        reduce_rows(rows, a.x, a.x_row, partials,
                    [&](Index r, auto n, Index j, int lanes, Vec(&sums)[1]) FASTNN_BODY {
                        sums[0] = sums[0] + sum_of<n>([&](int i) FASTNN_BODY {
                                      return vload(a.x + (r + i) * a.x_row + j, lanes);
                                  });
                    });
    });
}

void combine(const ColumnSumArgs& a, const ColumnPlan& p, Range columns) {
    each_vec(columns, [&](Index j, int lanes) FASTNN_BODY {
        const Wide total = sum_blocks(beside(a.partials, a.x, a.x_row), p, j, lanes);
        for (int i = 0; i < lanes; ++i)
            a.out[j + i] = (a.accumulate ? a.out[j + i] : 0.0f) + static_cast<float>(total.v[i]);
    });
}

}  // namespace

int column_sum_reduce_chunks(const ColumnSumArgs& a) { return phase_chunks(a.rows, a.cols, 0); }
int column_sum_combine_chunks(const ColumnSumArgs& a) { return phase_chunks(a.rows, a.cols, 1); }

void column_sum_reduce(const ColumnSumArgs& a, int chunk, Scratch&) {
    const ColumnPlan p = column_plan(a.rows, a.cols);
    if (p.slabs) {
        each_block_of_slab(p, chunk, nullptr, 0, [&](const Block& block) {
            reduce(a, p, block);
            combine(a, p, block.columns);
        });
    } else {
        reduce(a, p, group_of(p, chunk));
    }
}

void column_sum_combine(const ColumnSumArgs& a, int chunk, Scratch&) {
    const ColumnPlan p = column_plan(a.rows, a.cols);
    combine(a, p, combined_by(p, chunk));
}

}  // namespace fastnn::FASTNN_NS
