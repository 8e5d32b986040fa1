// Reductions down the columns of a row-major matrix (batch-norm statistics, bias gradients).
//
// Rows are summed in blocks of kStatRows in float, the blocks of a column are combined in order in double:
// the same bits for every ISA, thread count and way of cutting. Two ways of cutting, chosen by shape:
//   slabs:  small matrices; one chunk owns kSlabColumns columns and does everything for them;
//   groups: phase 0 sums row blocks, phase 1 combines columns, phase 2 goes over the rows again.
// Rows are read in runs of a whole tile, four at a time: walking down one vector of columns meets the same
// cache set at every row when the row stride is a power of two (512 x 2048 backward, one thread: 4.5 ms
// against 1.8).
#pragma once

#include "core/kernels.h"
#include "cpu/index.h"
#include "cpu/vec.h"

namespace fastnn::FASTNN_NS {

static constexpr Index kSlabColumns = 64;
static constexpr Index kTileColumns = 512;
static constexpr Index kSlabElements = 16 * 1024;  // x and y, or dy, x and dx, stay in a 512 KB or 1 MB cache
static constexpr Index kGroupElements = 24 * 1024;  // of one chunk in the groups way

struct ColumnPlan {
    Index rows, cols;
    Index padded;  // columns of one row of partials
    Index blocks;  // of kStatRows rows
    bool slabs;
    Index width;         // columns of one chunk of phases 0 and 2
    Index across;        // such chunks side by side
    Index group_blocks;  // row blocks of one chunk
};

FASTNN_INLINE ColumnPlan column_plan(Index rows, Index cols) {
    ColumnPlan p{};
    p.rows = rows;
    p.cols = cols;
    p.padded = round_up(cols, kLanes);
    p.blocks = ceil_div(rows, kStatRows);
    p.slabs = rows * cols <= kSlabElements || rows <= kStatRows;
    p.width = p.slabs ? kSlabColumns : cols < kTileColumns ? p.padded : kTileColumns;
    p.across = ceil_div(cols, p.width);
    const Index wanted = kGroupElements / (kStatRows * p.width);
    p.group_blocks = most(wanted, ceil_div(p.blocks * p.across, 65536));
    return p;
}

// Chunks of phase 0, 1 and 2.
FASTNN_INLINE int phase_chunks(Index rows, Index cols, int phase) {
    if (cols == 0) return 0;
    const ColumnPlan p = column_plan(rows, cols);
    if (p.slabs) return phase == 0 ? static_cast<int>(p.across) : 0;
    if (phase == 1) return static_cast<int>(ceil_div(cols, kSlabColumns));
    return static_cast<int>(p.across * ceil_div(p.blocks, p.group_blocks));
}

struct Range {
    Index begin, end;
};

struct Block {
    Range rows, columns;
};

// Columns of chunk `chunk` of phase 1, or of a slab.
FASTNN_INLINE Range slab_of(const ColumnPlan& p, int chunk) {
    return {chunk * kSlabColumns, least((chunk + 1) * kSlabColumns, p.cols)};
}

// What chunk `chunk` of phase 0 or 2 works on in the groups way.
FASTNN_INLINE Block group_of(const ColumnPlan& p, int chunk) {
    const Index column = chunk % p.across * p.width;
    const Index row = chunk / p.across * p.group_blocks * kStatRows;
    return {{row, least(row + p.group_blocks * kStatRows, p.rows)},
            {column, least(column + p.width, p.cols)}};
}

// f(column, lanes) for each Vec of a column range.
template <class F>
FASTNN_INLINE void each_vec(Range columns, F f) {
    Index j = columns.begin;
    for (; j + kLanes <= columns.end; j += kLanes) f(j, kLanes);
    if (j < columns.end) f(j, static_cast<int>(columns.end - j));
}

// f(row, std::integral_constant<int, n>) for n = 4 rows at a time, then one.
template <class F>
FASTNN_INLINE void each_quad(Range rows, F f) {
    Index r = rows.begin;
    for (; r + 4 <= rows.end; r += 4) f(r, std::integral_constant<int, 4>{});
    for (; r < rows.end; ++r) f(r, std::integral_constant<int, 1>{});
}

// Sums of one block of rows into kSums rows of partials: add(row, column, lanes, sums) adds one row to the
// running sums of sixteen columns. Rows are added in order.
template <int kSums, class F>
FASTNN_INLINE void reduce_rows(const Block& block, float* const (&partials)[kSums], F add) {
    each_vec(block.columns, [&](Index j, int) FASTNN_BODY {
        unroll<kSums>([&](auto s) FASTNN_BODY { vstore(partials[s] + j, splat(0.0f)); });
    });
    each_quad(block.rows, [&](Index r, auto n) FASTNN_BODY {
        each_vec(block.columns, [&](Index j, int lanes) FASTNN_BODY {
            Vec sums[kSums];
            unroll<kSums>([&](auto s) FASTNN_BODY { sums[s] = vload(partials[s] + j); });
            unroll<n>([&](auto i) FASTNN_BODY { add(r + i, j, lanes, sums); });
            unroll<kSums>([&](auto s) FASTNN_BODY { vstore(partials[s] + j, sums[s]); });
        });
    });
}

// f(block, index) for each kStatRows rows of a block.
template <class F>
FASTNN_INLINE void each_stat_block(const Block& block, F f) {
    for (Index r = block.rows.begin; r < block.rows.end; r += kStatRows)
        f(Block{{r, least(r + kStatRows, block.rows.end)}, block.columns}, r / kStatRows);
}

// Sixteen columns in double: plain loops over the lanes, which every ISA rounds alike.
struct Wide {
    double v[kLanes];
};

// The sum of one partial statistic over all row blocks of sixteen columns.
FASTNN_INLINE Wide sum_blocks(const float* partial, const ColumnPlan& p, Index column) {
    Wide total{};
    for (Index b = 0; b < p.blocks; ++b) {
        const float* row = partial + b * p.padded + column;
        for (int i = 0; i < kLanes; ++i) total.v[i] += static_cast<double>(row[i]);
    }
    return total;
}

}  // namespace fastnn::FASTNN_NS
