// Reductions down the columns of a row-major matrix (batch-norm statistics, bias gradients).
//
// Rows are summed in blocks of kStatRows in float, four at a time, the blocks of a column are combined in
// order in double: the same bits for every ISA, thread count and way of cutting. Two ways of cutting, chosen
// by shape:
//   slabs:  small matrices; one chunk owns some columns and does everything for them;
//   groups: phase 0 sums row blocks, phase 1 combines columns, phase 2 goes over the rows again.
// Rows are read in long runs, a few at a time: walking down one vector of columns meets the same cache set at
// every row when the row stride is a power of two (512 x 2048 backward, one thread: 4.5 ms against 1.8).
//
// The kernels on these loops take their arguments by value: through a reference every store of a vector,
// which may alias anything, makes the compiler load all pointers again (512 x 2048 forward: 345 us against
// 285).
#pragma once

#include <limits>

#include "core/kernels.h"
#include "cpu/index.h"
#include "cpu/stream.h"
#include "cpu/vec.h"

namespace fastnn::FASTNN_NS {

static constexpr Index kNoLength = std::numeric_limits<Index>::max();
// Long runs: on one thread slabs of 128 and 64 columns take 1.0 to 1.14 and 1.1 to 1.3 times as long as of
// 256. But where there is work for two, (128, 256) was one thread's: 784-256-128-10 takes 0.98 of the time
// so.
static constexpr Index kSlabColumns = 256, kSharedSlabColumns = 128, kSharedSlabs = 24 * 1024;
static constexpr Index kCombineColumns = 64;  // of one chunk of phase 1
// Columns that are gone through one vector after another: (1024, 32) backward 0.75 to 0.92 of the time, but
// (1024, 64) forward 1.2 to 1.4.
static constexpr Index kNarrow = 32;
static constexpr Index kTileColumns = 512;  // phase 0: its sums stay in L1
// Columns that pay for a second partial vector (columns_to_border). Stores of 32 columns, AVX-512: 1.03
// and 1.19 times as long; loads of 64 in the statistics: 1.17. An Intel CPU would gain with AVX2 as well,
// from 64 columns on (0.74 and 0.90 of the time), but a masked store is some eighteen instructions inside a
// Zen 3.
static constexpr bool kWhole = Reg::kWidth == kLanes;  // a Vec is one register, of a line
static constexpr Index kAlignedStores = kWhole ? 48 : 512, kAlignedLoads = kWhole ? 128 : kNoLength;
// Of a chunk of phase 2: a Zen 3 wants long runs (390 us against 272), a Zen 5 the factors of all its columns
// in L1 ((512, 2048) 0.87 to 0.97 of the time).
static constexpr Index kApplyColumns = kWhole ? 512 : 2048;
// The scalar path has no lines to mind and no registers to keep: one way through a block is enough to
// compile.
#if defined(FASTNN_ISA_SCALAR)
static constexpr bool kManyWays = false;
#else
static constexpr bool kManyWays = true;
#endif
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
    const Index slab = rows * cols < kSharedSlabs ? kSlabColumns : kSharedSlabColumns;
    p.width = least(p.padded, p.slabs ? slab : kTileColumns);
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
    if (phase == 1) return static_cast<int>(ceil_div(cols, kCombineColumns));
    if (phase == 2) return static_cast<int>(p.apply_across * ceil_div(rows, p.apply_rows));
    return static_cast<int>(p.across * ceil_div(p.blocks, p.group_blocks));
}

struct Range {
    Index begin, end;
};

struct Block {
    Range rows, columns;
};

// Columns of chunk `chunk` of phase 1.
FASTNN_INLINE Range combined_by(const ColumnPlan& p, int chunk) {
    return {chunk * kCombineColumns, least((chunk + 1) * kCombineColumns, p.cols)};
}

// f(block) for slab `chunk`, all of whose rows it writes to `out`. Two threads that write to one line for
// every row take longer than one alone, so where the rows of `out` have their borders at the same columns,
// slabs meet there, and the columns before the first border, whose lines hold the end of the row before, are
// of the last slab: its second block. (128, 512), 16 bytes off, two threads: 18 us; so 14 (9 where nothing is
// off).
template <class F>
FASTNN_INLINE void each_block_of_slab(const ColumnPlan& p, int chunk, const float* out, Index out_row, F f) {
    const bool alike = p.across > 1 && out != nullptr && out_row % kLanes == 0;
    const Index lead = alike ? until_aligned(out, kLanes) : 0;
    f(Block{{0, p.rows},
            {least(lead + chunk * p.width, p.cols), least(lead + (chunk + 1) * p.width, p.cols)}});
    if (lead > 0 && chunk + 1 == p.across) f(Block{{0, p.rows}, {0, lead}});
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

// Columns of a block up to the next 64-byte border of x, if all its rows have it at the same columns and are
// long enough. NumPy's large arrays begin 16 bytes past a border, so that every load or store of a register
// of AVX-512 would touch two lines. One thread, times with stores at borders over those without, forward and
// backward: (256, 256) 0.51 and 0.64, (2048, 112) 0.54 and 0.62, (1024, 64) 0.75 and 0.84, (6272, 256) 0.45
// and 0.56. With the loads of the statistics, too, these are 0.85 to 0.95 of that up to (512, 512).
FASTNN_INLINE Index columns_to_border(const float* x, Index x_row, const Block& block, Index fewest) {
    const Index columns = block.columns.end - block.columns.begin;
    if (!kManyWays || x_row % kLanes != 0 || columns < fewest) return 0;
    return until_aligned(x + block.rows.begin * x_row + block.columns.begin, columns);
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

// f(row, std::integral_constant<int, n>) for n = kRows rows at a time, then one.
template <int kRows, class F>
FASTNN_INLINE void each_rows(Range rows, F f) {
    Index r = rows.begin;
    for (; r + kRows <= rows.end; r += kRows) f(r, std::integral_constant<int, kRows>{});
    for (; r < rows.end; ++r) f(r, std::integral_constant<int, 1>{});
}

// Whether a block is gone through column by column: what stays the same down one is then kept in registers.
FASTNN_INLINE bool narrow(const Block& block) {
    return kManyWays && block.columns.end - block.columns.begin <= kNarrow;
}

// What stays the same down a column.
template <int n>
struct FactorsOf {
    Vec of[n];
};

// Rows of few columns that lie side by side are one run of vectors, which the columns of this many numbers
// repeat in, wherever a vector begins: (50176, 64) on two threads 0.67 to 0.86 of the time, (1024, 64) 0.91
// to 0.97.
static constexpr Index kPeriod = 4 * kLanes;
FASTNN_INLINE bool is_run(Index rows, Index cols) {
    return kWhole && rows * cols > kSlabElements && kPeriod % most(cols, 1) == 0;
}

// put(f, load(f, 0, i, lanes), 0, i, lanes) for the numbers of whole rows, with f those of the columns.
template <class Factors, class Load, class Put>
FASTNN_INLINE void each_of_run(const Range& rows, Index cols, const float* out, Factors factors, Load load,
                               Put put) {
    auto first = factors(0, static_cast<int>(least(cols, kLanes)));
    constexpr int kFields = sizeof(first.of) / sizeof(Vec);
    float period[kFields][kPeriod + kLanes];
    for (Index j = 0; j < cols; j += kLanes) {
        const auto f = factors(j, static_cast<int>(least(cols - j, kLanes)));
        unroll<kFields>([&](auto k) FASTNN_BODY { vstore(period[k] + j, f.of[k]); });
    }
    for (float* of : period)
        for (Index j = cols; j < kPeriod + kLanes; ++j) of[j] = of[j - cols];
    const auto from = [&](Index j) FASTNN_BODY {
        unroll<kFields>([&](auto k) FASTNN_BODY { first.of[k] = vload(period[k] + j); });
        return first;
    };
    const auto put_one = [&](const auto& f, Index i, int lanes)
                             FASTNN_BODY { put(f, load(f, 0, i, lanes), 0, i, lanes); };
    Index i = rows.begin * cols;
    const Index end = rows.end * cols;
    const Index lead = until_aligned(out + i, end - i);
    if (lead > 0) put_one(from(0), i, static_cast<int>(lead));
    i += lead;
    const decltype(first) f[4] = {from(lead), from(lead + kLanes), from(lead + 2 * kLanes),
                                  from(lead + 3 * kLanes)};
    for (; i + kPeriod <= end; i += kPeriod)
        unroll<4>([&](auto v) FASTNN_BODY { put_one(f[v], i + v * kLanes, kLanes); });
    for (int v = 0; i < end; i += kLanes, ++v) put_one(f[v], i, static_cast<int>(least(kLanes, end - i)));
}

// put(f, load(f, row, column, lanes), row, column, lanes) for all rows and vectors of a block of what `out`
// will hold, kAtOnce rows at a time, with f = factors(column, lanes), which are computed once for all rows:
// that is what lets AVX-512 go row by row, as a copy does. A Zen 5 takes 0.84 to 0.96 of the time of four
// rows at a time. All loads of these come before the stores: with a row stride of 2^n a load waits for a
// store to the row before, whose address has the same low bits. after(rows) follows rows that are done.
template <int kAtOnce, class Factors, class Load, class Put, class After>
FASTNN_INLINE void each_with_factors(const Block& block, const float* out, Index out_row, Factors factors,
                                     Load load, Put put, After after) {
    constexpr int kRows = kManyWays ? kAtOnce : 1;
    const auto do_rows = [&](const auto& f, Index r, auto n, Index j, int lanes) FASTNN_BODY {
        Vec d[n];
        unroll<n>([&](auto i) FASTNN_BODY { d[i] = load(f, r + i, j, lanes); });
        unroll<n>([&](auto i) FASTNN_BODY { put(f, d[i], r + i, j, lanes); });
    };
    if (narrow(block)) {
        each_vec(block.columns, [&](Index j, int lanes) FASTNN_BODY {
            const auto f = factors(j, lanes);
            each_rows<kRows>(block.rows, [&](Index r, auto n) FASTNN_BODY { do_rows(f, r, n, j, lanes); });
        });
        return after(block.rows);
    }
    // As far behind a border as `out` is.
    const Index lead = columns_to_border(out, out_row, block, kAlignedStores);
    const Index before = lead > 0 ? block.columns.begin + lead - kLanes : block.columns.begin;
    constexpr int kFields = sizeof(factors(0, 0).of) / sizeof(Vec);
    alignas(64) float ready[kFields][kApplyColumns + 2 * kLanes];
    each_vec({block.columns.begin, block.columns.end + kLanes}, [&](Index j, int) FASTNN_BODY {
        const auto f = factors(j, static_cast<int>(least(kLanes, most(block.columns.end - j, 0))));
        unroll<kFields>([&](auto k) FASTNN_BODY { vstore(ready[k] + (j - before), f.of[k]); });
    });
    each_rows<kRows>(block.rows, [&](Index r, auto n) FASTNN_BODY {
        each_vec_after(lead, block.columns, [&](Index j, int lanes) FASTNN_BODY {
            decltype(factors(j, lanes)) f;
            unroll<kFields>([&](auto k) FASTNN_BODY { f.of[k] = vload(ready[k] + (j - before)); });
            do_rows(f, r, n, j, lanes);
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

// Sums of one block of the rows of x into kSums rows of partials: add(row, n, column, lanes, sums) adds n = 4
// or 1 rows to the running sums of sixteen columns, in order.
template <int kSums, class F>
FASTNN_INLINE void reduce_rows(const Block& block, const float* x, Index x_row,
                               float* const (&partials)[kSums], F add) {
    if (narrow(block)) {
        each_vec(block.columns, [&](Index j, int lanes) FASTNN_BODY {
            Vec sums[kSums];
            unroll<kSums>([&](auto s) FASTNN_BODY { sums[s] = splat(0.0f); });
            each_rows<4>(block.rows, [&](Index r, auto n) FASTNN_BODY { add(r, n, j, lanes, sums); });
            unroll<kSums>([&](auto s) FASTNN_BODY { vstore(partials[s] + j, sums[s], lanes); });
        });
        return;
    }
    each_vec(block.columns, [&](Index j, int lanes) FASTNN_BODY {
        unroll<kSums>([&](auto s) FASTNN_BODY { vstore(partials[s] + j, splat(0.0f), lanes); });
    });
    const Index lead = columns_to_border(x, x_row, block, kAlignedLoads);
    // n rows, `times` over, while their sums stay in registers.
    const auto add_rows = [&](Index r, auto n, auto times) FASTNN_BODY {
        each_vec_after(lead, block.columns, [&](Index j, int lanes) FASTNN_BODY {
            Vec sums[kSums];
            unroll<kSums>([&](auto s) FASTNN_BODY { sums[s] = vload(partials[s] + j, lanes); });
            unroll<times>([&](auto i) FASTNN_BODY { add(r + i * n, n, j, lanes, sums); });
            unroll<kSums>([&](auto s) FASTNN_BODY { vstore(partials[s] + j, sums[s], lanes); });
        });
    };
    constexpr std::integral_constant<int, 1> once;
    constexpr std::integral_constant<int, 2> twice;
    constexpr std::integral_constant<int, 4> four;
    Index r = block.rows.begin;
    for (; kManyWays && r + 8 <= block.rows.end; r += 8) add_rows(r, four, twice);
    for (; r + 4 <= block.rows.end; r += 4) add_rows(r, four, once);
    for (; r < block.rows.end; ++r) add_rows(r, once, once);
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

// Partials of x, as far behind a border of a line as its rows are: what reads x by lines finds these in
// lines, and slabs that meet at a border share none, on which two threads wait at every row.
FASTNN_INLINE float* beside(float* partials, const float* x, Index x_row) {
    return x_row % kLanes == 0 ? partials + (kLanes - until_aligned(x, kLanes)) % kLanes : partials;
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
