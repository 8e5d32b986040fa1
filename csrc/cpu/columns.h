// Reductions down the columns of a row-major matrix (batch-norm statistics, bias gradients).
//
// Rows are summed in blocks of kStatRows in float, four at a time, the blocks of a column are combined in
// order in double: the same bits for every ISA, thread count and way of cutting. Two ways of cutting, chosen
// by shape:
//   slabs:  small matrices; one chunk owns kSlabColumns columns and does everything for them;
//   groups: phase 0 sums row blocks, phase 1 combines columns, phase 2 goes over the rows again.
// Rows are read in long runs, a few at a time: walking down one vector of columns meets the same cache set at
// every row when the row stride is a power of two (512 x 2048 backward, one thread: 4.5 ms against 1.8).
//
// The kernels on these loops take their arguments by value: through a reference every store of a vector,
// which may alias anything, makes the compiler load all pointers again (512 x 2048 forward: 345 us against
// 285).
#pragma once

#include "core/kernels.h"
#include "cpu/index.h"
#include "cpu/stream.h"
#include "cpu/vec.h"

namespace fastnn::FASTNN_NS {

static constexpr Index kSlabColumns = 64;
// Vectors of a slab whose sums, and whose factors in the last pass, stay in registers while its rows go by,
// where there are 32 of them. (128, 512), one thread: batch-norm forward 35 to 22 us, backward 37 to 26, with
// arrays that begin at a border of a cache line 20 to 17.5 and 26 to 22. Of two registers each, with AVX2: 17
// to 22 and 26 to 27.
static constexpr int kHeld = Reg::kWidth == kLanes ? 4 : 0;
static constexpr Index kTileColumns = 512;    // phase 0: its sums stay in L1
static constexpr Index kApplyColumns = 2048;  // phase 2: long runs suit the prefetcher (390 us against 272)
// Fewer do worse with stores at borders of lines (below): 32 columns, AVX-512: 1.03 and 1.19 times as long.
// AVX2 gains from 64 columns on (0.74 and 0.90) where masked stores are cheap, which they are not on a Zen 3.
static constexpr Index kAlignedColumns = kHeld > 0 ? 48 : 128;
static constexpr Index kMostChunks = 65536;
static constexpr Index kSlabElements = 16 * 1024;  // x and y, or dy, x and dx, stay in a 512 KB or 1 MB cache
static constexpr Index kGroupElements = 24 * 1024;  // of one chunk in the groups way

struct ColumnPlan {
    Index rows, cols;
    Index padded;  // columns of one row of partials
    Index blocks;  // of kStatRows rows
    bool slabs;
    Index width;         // columns of one chunk of phase 0
    Index across;        // such chunks side by side
    Index group_blocks;  // row blocks of one chunk
    Index apply_width;   // columns of one chunk of phase 2
    Index apply_across;
    Index apply_rows;
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
    p.group_blocks = most(wanted, ceil_div(p.blocks * p.across, kMostChunks));
    p.apply_width = least(p.padded, kApplyColumns);
    p.apply_across = ceil_div(cols, p.apply_width);
    p.apply_rows = round_up(
        most(ceil_div(kGroupElements, p.apply_width), ceil_div(rows * p.apply_across, kMostChunks)), 4);
    return p;
}

// Chunks of phase 0, 1 and 2.
FASTNN_INLINE int phase_chunks(Index rows, Index cols, int phase) {
    if (cols == 0) return 0;
    const ColumnPlan p = column_plan(rows, cols);
    if (p.slabs) return phase == 0 ? static_cast<int>(p.across) : 0;
    if (phase == 1) return static_cast<int>(ceil_div(cols, kSlabColumns));
    if (phase == 2) return static_cast<int>(p.apply_across * ceil_div(rows, p.apply_rows));
    return static_cast<int>(p.across * ceil_div(p.blocks, p.group_blocks));
}

struct Range {
    Index begin, end;
};

struct Block {
    Range rows, columns;
    bool held = false;  // a slab, kHeld of whose vectors stay in registers
    Index lead = 0;     // held: its columns before the first border of a line
};

// Columns of chunk `chunk` of phase 1, or of a slab.
FASTNN_INLINE Range slab_of(const ColumnPlan& p, int chunk) {
    return {chunk * kSlabColumns, least((chunk + 1) * kSlabColumns, p.cols)};
}

// Slab `chunk` as a block. Where vectors are held and the rows of `out`, which it writes, have their borders
// at the same columns, slabs meet at a border: two threads that write parts of one line for every row take
// longer than one thread alone (above, forward: 30 us; so 15).
FASTNN_INLINE Block slab_block(const ColumnPlan& p, int chunk, const float* out, Index out_row) {
    Block block{{0, p.rows}, slab_of(p, chunk), kHeld > 0, 0};
    if (!block.held || p.across == 1 || out == nullptr || out_row % kLanes != 0) return block;
    const Index lead = until_aligned(out, kLanes);
    if (chunk == 0) block.lead = lead;
    if (chunk > 0) block.columns.begin = least(block.columns.begin + lead, p.cols);
    if (chunk + 1 < p.across) block.columns.end = least(block.columns.end + lead, p.cols);
    return block;
}

// What a chunk of phase 0 works on in the groups way, and one of phase 2.
FASTNN_INLINE Block group_of(const ColumnPlan& p, int chunk) {
    const Index column = chunk % p.across * p.width;
    const Index row = chunk / p.across * p.group_blocks * kStatRows;
    return {{row, least(row + p.group_blocks * kStatRows, p.rows)},
            {column, least(column + p.width, p.cols)}};
}

FASTNN_INLINE Block apply_block_of(const ColumnPlan& p, int chunk) {
    const Index column = chunk % p.apply_across * p.apply_width;
    const Index row = chunk / p.apply_across * p.apply_rows;
    return {{row, least(row + p.apply_rows, p.rows)}, {column, least(column + p.apply_width, p.cols)}};
}

// f(column, lanes) for each Vec of a column range.
template <class F>
FASTNN_INLINE void each_vec(Range columns, F f) {
    Index j = columns.begin;
    for (; j + kLanes <= columns.end; j += kLanes) f(j, kLanes);
    if (j < columns.end) f(j, static_cast<int>(columns.end - j));
}

// Columns of a block up to the next 64-byte border of `out`, if all its rows have it at the same columns and
// are long enough to pay for a second partial vector. NumPy's large arrays begin 16 bytes past a border, so
// that every store of a register of AVX-512 would write to two lines. One thread, times with stores at
// borders over those without, forward and backward: (256, 256) 0.51 and 0.64, (2048, 112) 0.54 and 0.62,
// (1024, 64) 0.75 and 0.84, (6272, 256) 0.45 and 0.56. Loads at borders in the reduction gave nothing.
FASTNN_INLINE Index columns_to_border(const float* out, Index out_row, const Block& block) {
    const Index columns = block.columns.end - block.columns.begin;
    if (out_row % kLanes != 0 || columns < kAlignedColumns) return 0;
    return until_aligned(out + block.rows.begin * out_row + block.columns.begin, columns);
}

// each_vec with its whole vectors behind the first `lead` columns.
template <class F>
FASTNN_INLINE void each_vec_after(Index lead, Range columns, F f) {
    Index j = columns.begin + lead;
    for (; j + kLanes <= columns.end; j += kLanes) f(j, kLanes);
    Range rest{j, columns.end};
    for (int parts = lead > 0 ? 2 : 1; parts > 0; --parts) {
        if (rest.begin < rest.end) f(rest.begin, static_cast<int>(rest.end - rest.begin));
        rest = {columns.begin, columns.begin + lead};
    }
}

// f(column, std::integral_constant<int, v>, lanes) for v = kHeld whole vectors of a block's columns, or one
// of so many lanes.
template <class F>
FASTNN_INLINE void each_held(const Block& block, F f) {
    constexpr std::integral_constant<int, 1> one;
    Index j = block.columns.begin;
    if (block.lead > 0) f(j, one, static_cast<int>(block.lead));
    j += block.lead;
    for (; j + kHeld * kLanes <= block.columns.end; j += kHeld * kLanes)
        f(j, std::integral_constant<int, kHeld>{}, kLanes);
    for (; j < block.columns.end; j += kLanes)
        f(j, one, static_cast<int>(least(block.columns.end - j, kLanes)));
}

// f(row, std::integral_constant<int, n>) for n = kRows rows at a time, then one.
template <int kRows, class F>
FASTNN_INLINE void each_rows(Range rows, F f) {
    Index r = rows.begin;
    for (; r + kRows <= rows.end; r += kRows) f(r, std::integral_constant<int, kRows>{});
    for (; r < rows.end; ++r) f(r, std::integral_constant<int, 1>{});
}

// put(f, load(f, row, column, lanes), row, column, lanes) for all rows and vectors of a block of what `out`
// will hold, with f = factors(column, lanes): kHeld vectors at a time where they are held, else kRows rows.
// All loads of these come before the stores: with a row stride of 2^n a load waits for a store to the row
// before, whose address has the same low bits. after(rows) follows rows that are done.
template <int kRows, class Factors, class Load, class Put, class After>
FASTNN_INLINE void each_with_factors(const Block& block, const float* out, Index out_row, Factors factors,
                                     Load load, Put put, After after) {
    if constexpr (kHeld > 0) {
        if (block.held) {
            each_held(block, [&](Index j, auto held, int lanes) FASTNN_BODY {
                decltype(factors(j, lanes)) f[held];
                unroll<held>([&](auto v) FASTNN_BODY { f[v] = factors(j + v * kLanes, lanes); });
                for (Index r = block.rows.begin; r < block.rows.end; ++r) {
                    Vec d[held];
                    unroll<held>([&](auto v) FASTNN_BODY { d[v] = load(f[v], r, j + v * kLanes, lanes); });
                    unroll<held>([&](auto v) FASTNN_BODY { put(f[v], d[v], r, j + v * kLanes, lanes); });
                }
            });
            return after(block.rows);
        }
    }
    const Index lead = columns_to_border(out, out_row, block);
    each_rows<kRows>(block.rows, [&](Index r, auto n) FASTNN_BODY {
        each_vec_after(lead, block.columns, [&](Index j, int lanes) FASTNN_BODY {
            const auto f = factors(j, lanes);
            Vec d[n];
            unroll<n>([&](auto i) FASTNN_BODY { d[i] = load(f, r + i, j, lanes); });
            unroll<n>([&](auto i) FASTNN_BODY { put(f, d[i], r + i, j, lanes); });
        });
        after({r, r + n});
    });
}

// a(0) + a(1) + ... in pairs, for four rows or one.
template <int n, class A>
FASTNN_INLINE Vec sum_of(A a) {
    if constexpr (n == 1)
        return a(0);
    else
        return (a(0) + a(1)) + (a(2) + a(3));
}
template <int n, class A, class B>
FASTNN_INLINE Vec sum_of_products(A a, B b) {
    if constexpr (n == 1)
        return a(0) * b(0);
    else
        return fma(a(1), b(1), a(0) * b(0)) + fma(a(3), b(3), a(2) * b(2));
}

// Sums of one block of rows into kSums rows of partials: add(row, n, column, lanes, sums) adds n = 4 or 1
// rows to the running sums of sixteen columns, in order.
template <int kSums, class F>
FASTNN_INLINE void reduce_rows(const Block& block, float* const (&partials)[kSums], F add) {
    if constexpr (kHeld > 0) {
        if (block.held) {
            each_held(block, [&](Index j, auto held, int lanes) FASTNN_BODY {
                Vec sums[held][kSums];
                unroll<held>([&](auto v) FASTNN_BODY {
                    unroll<kSums>([&](auto s) FASTNN_BODY { sums[v][s] = splat(0.0f); });
                });
                each_rows<4>(block.rows, [&](Index r, auto n) FASTNN_BODY {
                    unroll<held>([&](auto v) FASTNN_BODY { add(r, n, j + v * kLanes, lanes, sums[v]); });
                });
                unroll<held>([&](auto v) FASTNN_BODY {
                    unroll<kSums>(
                        [&](auto s) FASTNN_BODY { vstore(partials[s] + j + v * kLanes, sums[v][s], lanes); });
                });
            });
            return;
        }
    }
    each_vec(block.columns, [&](Index j, int) FASTNN_BODY {
        unroll<kSums>([&](auto s) FASTNN_BODY { vstore(partials[s] + j, splat(0.0f)); });
    });
    each_rows<4>(block.rows, [&](Index r, auto n) FASTNN_BODY {
        each_vec(block.columns, [&](Index j, int lanes) FASTNN_BODY {
            Vec sums[kSums];
            unroll<kSums>([&](auto s) FASTNN_BODY { sums[s] = vload(partials[s] + j); });
            add(r, n, j, lanes, sums);
            unroll<kSums>([&](auto s) FASTNN_BODY { vstore(partials[s] + j, sums[s]); });
        });
    });
}

// f(block, index) for each kStatRows rows of a block.
template <class F>
FASTNN_INLINE void each_stat_block(const Block& block, F f) {
    for (Index r = block.rows.begin; r < block.rows.end; r += kStatRows)
        f(Block{{r, least(r + kStatRows, block.rows.end)}, block.columns, block.held, block.lead},
          r / kStatRows);
}

// Sixteen columns in double: plain loops over the lanes, which every ISA rounds alike.
struct Wide {
    double v[kLanes];
};

FASTNN_INLINE Wide load_wide(const float* p, int lanes) {
    float t[kLanes];
    vstore(t, vload(p, lanes));
    Wide a;
    for (int i = 0; i < kLanes; ++i) a.v[i] = static_cast<double>(t[i]);
    return a;
}
FASTNN_INLINE void store_wide(float* p, const Wide& a, int lanes) {
    float t[kLanes];
    for (int i = 0; i < kLanes; ++i) t[i] = static_cast<float>(a.v[i]);
    vstore(p, vload(t), lanes);
}

// The sum of one partial statistic over all row blocks of at most sixteen columns. The next ones may be
// another thread's.
FASTNN_INLINE Wide sum_blocks(const float* partial, const ColumnPlan& p, Index column, int lanes) {
    Wide total{};
    for (Index b = 0; b < p.blocks; ++b) {
        const float* row = partial + b * p.padded + column;
        for (int i = 0; i < lanes; ++i) total.v[i] += static_cast<double>(row[i]);
    }
    return total;
}

}  // namespace fastnn::FASTNN_NS
