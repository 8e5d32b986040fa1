// c = activation(alpha * a @ b + beta * c + bias), row-major c.
//
// One chunk is a rectangle of c: a slab of columns times a block of rows. It walks K in blocks of kBlockK
// (pc), packs its part of b if that pays, and fills the rectangle with register tiles (ir, jr). a is never
// copied: its elements are broadcast from where they lie, six to fourteen rows of it stay in L1 while the
// panels of b stream from L2. Edges are the same tile with fewer rows, fewer registers, and a mask.
#include <utility>

#include "cpu/activate.h"
#include "cpu/entries.h"
#include "cpu/gemm_pack.h"
#include "cpu/index.h"

namespace fastnn::FASTNN_NS {
namespace {

constexpr int W = Reg::kWidth;

// One register tile over one block of K.
struct Tile {
    const float* a;
    Index a_row, a_col;
    const float* b;
    Index b_row;
    Index k;
    float* c;
    Index c_row;
    const float* bias;
    float alpha, beta;
    bool first, last;  // of the blocks of K
    bool plain;        // alpha 1, beta 0, first and last: nothing but bias and ReLU to do
    bool relu;
    Activation other;  // an activation that is not ReLU
    int cols;
    int tail;  // of them in the last register
};

template <bool kEdge>
FASTNN_INLINE Reg load_last(const float* p, int tail) {
    if constexpr (kEdge)
        return load(p, tail);
    else
        return load(p);
}

template <bool kEdge>
FASTNN_INLINE void store_last(float* p, Reg r, int tail) {
    if constexpr (kEdge)
        store(p, r, tail);
    else
        store(p, r);
}

// What is left to do with a tile of sums that lies in an L1 buffer (`width` floats a row) when it is more
// than bias and ReLU: alpha, beta, one of several blocks of K, or another activation. The blocks are added up
// in c.
__attribute__((noinline)) void finish_buffered(const Tile& t, const float* sums, int rows, int width) {
    const Vec alpha = splat(t.alpha);
    const Vec beta = splat(t.beta);
    for (int i = 0; i < rows; ++i, sums += width) {
        float* c = t.c + i * t.c_row;
        for (int j = 0; j < t.cols; j += kLanes) {
            const int lanes = t.cols - j < kLanes ? t.cols - j : kLanes;
            Vec r = vload(sums + j, lanes);
            if (!t.first) {
                r = fma(alpha, r, vload(c + j, lanes));
            } else {
                r = alpha * r;
                if (t.beta != 0.0f) r = fma(beta, vload(c + j, lanes), r);
            }
            if (t.last && t.bias != nullptr) r = r + vload(t.bias + j, lanes);
            if (t.last && t.relu) r = max_(splat(0.0f), r);
            vstore(c + j, r, lanes);
        }
    }
    if (t.last && t.other != Activation::none) {
        activate(t.other, default_alpha(t.other),
                 {.x = t.c, .x_row = t.c_row, .y = t.c, .y_row = t.c_row, .rows = rows, .cols = t.cols});
    }
}

// kEdge: the last register is partial, in b (which may lie unpadded) and in c.
template <int MR, int NV, bool kEdge>
FASTNN_FLAT void tile(const Tile& t) {
    Reg acc[MR][NV];
    unroll<MR>([&](auto i) FASTNN_BODY { unroll<NV>([&](auto v) FASTNN_BODY { acc[i][v] = set1(0.0f); }); });

    // Three rows share one pointer: row, row + stride and row + 2 * stride are one addressing mode each.
    constexpr int kGroups = (MR + 2) / 3;
    const float* a[kGroups];
    unroll<kGroups>([&](auto g) FASTNN_BODY { a[g] = t.a + 3 * g * t.a_row; });
    const float* b = t.b;
    const Index a_row = t.a_row, a_col = t.a_col, b_row = t.b_row;
    for (Index k = t.k; k > 0; --k) {
        Reg bv[NV];
        unroll<NV - 1>([&](auto v) FASTNN_BODY { bv[v] = load(b + v * W); });
        bv[NV - 1] = load_last<kEdge>(b + (NV - 1) * W, t.tail);
        unroll<MR>([&](auto i) FASTNN_BODY {
            const Reg av = set1(a[i / 3][(i % 3) * a_row]);
            unroll<NV>([&](auto v) FASTNN_BODY { acc[i][v] = fma(av, bv[v], acc[i][v]); });
        });
        unroll<kGroups>([&](auto g) FASTNN_BODY { a[g] += a_col; });
        b += b_row;
    }

    if (!t.plain) {
        alignas(64) float sums[MR * NV * W];
        unroll<MR>([&](auto i) FASTNN_BODY {
            unroll<NV>([&](auto v) FASTNN_BODY { store(sums + (i * NV + v) * W, acc[i][v]); });
        });
        finish_buffered(t, sums, MR, NV * W);
        return;
    }
    const auto store_tile = [&](auto finish) FASTNN_BODY {
        float* const c = t.c;
        const Index c_row = t.c_row;
        const int tail = t.tail;
        unroll<MR>([&](auto i) FASTNN_BODY {
            unroll<NV - 1>([&](auto v) FASTNN_BODY { store(c + i * c_row + v * W, finish(acc[i][v], v)); });
            store_last<kEdge>(c + i * c_row + (NV - 1) * W, finish(acc[i][NV - 1], NV - 1), tail);
        });
    };
    if (t.bias == nullptr) {
        if (t.relu)
            store_tile([](Reg r, int) FASTNN_BODY { return max_(set1(0.0f), r); });
        else
            store_tile([](Reg r, int) FASTNN_BODY { return r; });
        return;
    }
    Reg bias[NV];
    unroll<NV - 1>([&](auto v) FASTNN_BODY { bias[v] = load(t.bias + v * W); });
    bias[NV - 1] = load_last<kEdge>(t.bias + (NV - 1) * W, t.tail);
    if (t.relu)
        store_tile([&](Reg r, int v) FASTNN_BODY { return max_(set1(0.0f), r + bias[v]); });
    else
        store_tile([&](Reg r, int v) FASTNN_BODY { return r + bias[v]; });
}

using TileFunction = void (*)(const Tile&);

struct TileTable {
    TileFunction by_rows[kMaxRows];  // [rows - 1]
};

template <int NV, bool kEdge, int... I>
constexpr TileTable tile_table(std::integer_sequence<int, I...>) {
    return {{tile<I + 1, NV, kEdge>...}};
}

// Edge panels of any width, [registers - 1]; a full panel has the one width kMaxWidth.
struct EdgeTables {
    TileTable by_width[kMaxWidth];
};

template <int... V>
constexpr EdgeTables edge_tables(std::integer_sequence<int, V...>) {
    return {{tile_table<V + 1, true>(std::make_integer_sequence<int, kRows[V + 1]>{})...}};
}

constexpr TileTable kWhole =
    tile_table<kMaxWidth, false>(std::make_integer_sequence<int, kRows[kMaxWidth]>{});
constexpr EdgeTables kEdge = edge_tables(std::make_integer_sequence<int, kMaxWidth>{});

// ---- how a product is cut into chunks: by shape and layout, never by threads; the bits do not see it ----

struct Grid {
    Index rows, cols;  // of one chunk
    Index row_blocks, col_slabs;
    bool pack;
};

Grid grid_of(const GemmArgs& g) {
    const bool aligned = reinterpret_cast<std::uintptr_t>(g.b) % (kInPlaceAlign * sizeof(float)) == 0 &&
                         g.b_row % kInPlaceAlign == 0 && most(g.n, g.k) <= kInPlaceMax;
    Grid grid{};
    grid.pack = g.b_col != 1 || (!aligned && g.m >= kPackRows && g.n >= kPanel);
    const double flops = 2.0 * static_cast<double>(g.m) * static_cast<double>(g.n) * static_cast<double>(g.k);
    if (flops < kChunkFlops && g.n <= kMinSlab) {
        // One chunk. The divisions below were a fifth of an 8x8 call.
        grid.rows = g.m;
        grid.cols = round_up(g.n, kPanel);
        grid.row_blocks = grid.col_slabs = 1;
        return grid;
    }
    const Index k = least(g.k, kBlockK);
    const double few = flops / kChunkFlops + 1.0 < kMaxChunks ? flops / kChunkFlops + 1.0 : kMaxChunks;
    const double many = flops / kLongestChunkFlops;
    const Index want = static_cast<Index>(many > few ? (many < 1e5 ? many : 1e5) : few);
    const Index widest = most(kPanel, kSlabFloats / most(k, 1) / kPanel * kPanel);
    // Columns first: slabs share no part of b, so nothing is packed twice.
    grid.cols = least(most(round_up(ceil_div(g.n, want), kPanel), kMinSlab), widest);
    grid.col_slabs = ceil_div(g.n, grid.cols);
    grid.cols = round_up(ceil_div(g.n, grid.col_slabs), kPanel);
    grid.col_slabs = ceil_div(g.n, grid.cols);
    // Then rows: every block of them packs its slab again.
    const Index least_rows = grid.pack ? kMinPackedRows : kMinRows;
    const Index blocks = ceil_div(want, grid.col_slabs);
    grid.rows = least(g.m, most(ceil_div(g.m, blocks), least_rows));
    grid.row_blocks = ceil_div(g.m, grid.rows);
    return grid;
}

}  // namespace

int gemm_chunks(const GemmArgs& g) {
    if (g.m == 0 || g.n == 0) return 0;
    const Grid grid = grid_of(g);
    return static_cast<int>(grid.row_blocks * grid.col_slabs);
}

namespace {

// Rows of the next tile: full ones, but the last two groups are shared out evenly (a tile of one or two rows
// would leave the FMA units waiting for their own results).
Index next_rows(Index left, Index full) {
    if (left >= 2 * full || left == full) return full;
    return left > full ? (left + 1) / 2 : left;
}

}  // namespace

void gemm(const GemmArgs& g, int chunk, Scratch& scratch) {
    const Grid grid = grid_of(g);
    const Index r0 = chunk % grid.row_blocks * grid.rows;
    const Index c0 = chunk / grid.row_blocks * grid.cols;
    const Index rows = least(grid.rows, g.m - r0);
    const Index cols = least(grid.cols, g.n - c0);
    const Index full = cols / kPanel;
    const int rest = static_cast<int>(cols % kPanel);
    const int rest_width = (rest + W - 1) / W;
    float* const packed = reinterpret_cast<float*>(scratch.data);

    Tile t{};
    t.a_row = g.a_row;
    t.a_col = g.a_col;
    t.c_row = g.c_row;
    t.alpha = g.alpha;
    t.beta = g.beta;
    t.relu = g.activation == Activation::relu;
    t.other = t.relu ? Activation::none : g.activation;
    t.plain = g.k <= kBlockK && g.alpha == 1.0f && g.beta == 0.0f && t.other == Activation::none;
    for (Index k0 = g.k_begin; k0 == g.k_begin || k0 < g.k_end; k0 += kBlockK) {
        t.k = least(kBlockK, g.k - k0);
        t.first = k0 == 0;
        t.last = k0 + kBlockK >= g.k;
        t.b_row = grid.pack ? kPanel : g.b_row;
        const auto panel = [&](Index p) FASTNN_BODY {
            return grid.pack ? packed + p * t.k * kPanel : g.b + k0 * g.b_row + c0 + p * kPanel;
        };
        if (grid.pack) {
            for (Index p = 0; p * kPanel < cols; ++p)
                pack_panel(g.b + k0 * g.b_row + (c0 + p * kPanel) * g.b_col, g.b_row, g.b_col, t.k,
                           static_cast<int>(least(kPanel, cols - p * kPanel)), packed + p * t.k * kPanel);
        }
        const auto fill = [&](Index p, Index row, TileFunction run) FASTNN_BODY {
            t.a = g.a + (r0 + row) * g.a_row + k0 * g.a_col;
            t.b = panel(p);
            t.c = g.c + (r0 + row) * g.c_row + c0 + p * kPanel;
            t.bias = g.bias == nullptr ? nullptr : g.bias + c0 + p * kPanel;
            run(t);
        };
        t.cols = kPanel;
        t.tail = W;
        for (Index row = 0, mr = 0; full > 0 && row < rows; row += mr) {
            mr = next_rows(rows - row, kRows[kMaxWidth]);
            const TileFunction run = kWhole.by_rows[mr - 1];
            for (Index p = 0; p < full; ++p) fill(p, row, run);
        }
        if (rest > 0) {
            t.cols = rest;
            t.tail = rest - (rest_width - 1) * W;
            const TileTable& table = kEdge.by_width[rest_width - 1];
            for (Index row = 0, mr = 0; row < rows; row += mr) {
                mr = next_rows(rows - row, kRows[rest_width]);
                fill(full, row, table.by_rows[mr - 1]);
            }
        }
    }
}

}  // namespace fastnn::FASTNN_NS
