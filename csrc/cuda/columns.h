// Reductions down the columns of a row-major matrix, in the order of the CPU's (cpu/columns.h): blocks of
// kStatRows rows, four at a time, by one thread for W columns; then blocks in order in double, a thread for a
// column. Neighbours read neighbouring columns, so no thread waits for another.
#pragma once

#include "core/kernels.h"
#include "cuda/launch.h"

namespace fastnn {

inline constexpr int kColumnThreads = 128;

// The plan of the partial sums: planes of `blocks` rows of `padded` floats.
struct ColumnGrid {
    Index rows, cols, blocks, padded;
};
constexpr ColumnGrid column_grid(Index rows, Index cols) {
    return {rows, cols, (rows + kStatRows - 1) / kStatRows, (cols + 15) / 16 * 16};
}
// Thread blocks of a reduction with W columns a thread.
inline unsigned reduce_blocks(const ColumnGrid& g, int w) {
    return blocks_for(g.cols, Index{w} * kColumnThreads) * static_cast<unsigned>(g.blocks);
}

struct ColumnPlace {
    Index column, block, begin, end;  // end == begin: nothing to do
};
template <int W>
FASTNN_RULE ColumnPlace column_place(const ColumnGrid& g) {
    const Index across = (g.cols + W * kColumnThreads - 1) / (W * kColumnThreads);
    const Index block = blockIdx.x / across;
    const Index column = (blockIdx.x % across * kColumnThreads + threadIdx.x) * W;
    const Index begin = block * kStatRows;
    const Index end = begin + kStatRows < g.rows ? begin + kStatRows : g.rows;
    return {column, block, begin, column < g.cols ? end : begin};
}

// four(row) for each four rows, one(row) for those left.
template <class Four, class One>
FASTNN_RULE void each_four_rows(const ColumnPlace& p, Four four, One one) {
    Index r = p.begin;
#pragma unroll 2
    for (; r + 4 <= p.end; r += 4) four(r);
    for (; r < p.end; ++r) one(r);
}

// The sum of W columns over a block's rows.
template <int W>
FASTNN_RULE Pack<W> column_sums(const ColumnSumArgs& a, const ColumnPlace& p) {
    Pack<W> sum{};
    const auto x = [&](Index row) { return load<W>(a.x + row * a.x_row + p.column); };
    each_four_rows(
        p,
        [&](Index r) {
            const Pack<W> x0 = x(r), x1 = x(r + 1), x2 = x(r + 2), x3 = x(r + 3);
#pragma unroll
            for (int l = 0; l < W; ++l) sum.v[l] += (x0.v[l] + x1.v[l]) + (x2.v[l] + x3.v[l]);
        },
        [&](Index r) {
            const Pack<W> x0 = x(r);
#pragma unroll
            for (int l = 0; l < W; ++l) sum.v[l] += x0.v[l];
        });
    return sum;
}

FASTNN_RULE void write_column_sum(const ColumnSumArgs& a, Index column, double total) {
    a.out[column] = (a.accumulate ? a.out[column] : 0.0f) + static_cast<float>(total);
}

// What rows add to two sums of a column: of numbers, and of products of two.
struct Sums {
    float plain, products;

    FASTNN_MEMBER void add(const Sums& more) {
        plain += more.plain;
        products += more.products;
    }
};

// The sum of a column over all blocks, which other blocks of threads may have written (so not from L1).
FASTNN_RULE double sum_blocks(const float* partial, const ColumnGrid& g, Index column) {
    double total = 0.0;
    for (Index b = 0; b < g.blocks; ++b)
        total += static_cast<double>(__ldcg(partial + b * g.padded + column));
    return total;
}

FASTNN_RULE Index thread_number() { return Index{blockIdx.x} * blockDim.x + threadIdx.x; }

// Passes over all elements: W columns of one row a thread.
struct RowPlace {
    Index row, column;  // row >= rows: nothing to do
};
template <int W>
FASTNN_RULE RowPlace row_place(Index cols) {
    const Index i = thread_number();
    const Index across = (cols + W - 1) / W;
    return {i / across, i % across * W};
}
inline unsigned row_blocks(Index rows, Index cols, int w) {
    return blocks_for(rows * ((cols + w - 1) / w), kThreads);
}

}  // namespace fastnn
