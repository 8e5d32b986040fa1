#include "cpu/gemm_block.h"

#include <utility>

#include "cpu/activate.h"

namespace fastnn::FASTNN_NS {
namespace {

constexpr int W = Reg::kWidth;

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

// How the terms of a row of a lie: side by side, or any way.
enum class Terms { side_by_side, any };

// kEdge: the last register is partial, in b (which may lie unpadded) and in c.
template <int MR, int NV, bool kEdge, Terms kA>
FASTNN_FLAT void tile(const Tile& t) {
    Reg acc[MR][NV];
    unroll<MR>([&](auto i) FASTNN_BODY { unroll<NV>([&](auto v) FASTNN_BODY { acc[i][v] = set1(0.0f); }); });

    // Three rows share one pointer: row, row + stride and row + 2 * stride are one addressing mode each.
    constexpr int kGroups = (MR + 2) / 3;
    const float* a[kGroups];
    unroll<kGroups>([&](auto g) FASTNN_BODY { a[g] = t.a + 3 * g * t.a_row; });
    const float* b = t.b;
    const Index a_row = t.a_row;
    const Index a_col = kA == Terms::side_by_side ? 1 : t.a_col;
    const Index b_row = t.b_row;
    constexpr bool tall = NV == kTallWidth && kA == Terms::side_by_side && !kEdge;
    const auto add_step = [&](auto u) FASTNN_BODY {
        Reg bv[NV];
        if constexpr (tall)
            unroll<NV>([&](auto v) FASTNN_BODY { __builtin_prefetch(b + kRowsAhead * b_row + v * W, 0, 2); });
        unroll<NV - 1>([&](auto v) FASTNN_BODY { bv[v] = load(b + v * W); });
        bv[NV - 1] = load_last<kEdge>(b + (NV - 1) * W, t.tail);
        unroll<MR>([&](auto i) FASTNN_BODY {
            const Reg av = set1((a[i / 3] + (i % 3) * a_row)[u * a_col]);
            unroll<NV>([&](auto v) FASTNN_BODY {
                if constexpr (kA == Terms::any)
                    acc[i][v] = add_products(av, bv[v], acc[i][v]);
                else
                    acc[i][v] = add_products_in_place(av, bv[v], acc[i][v]);
            });
        });
        b += b_row;
    };
    if (!t.first) unroll<MR>([&](auto i) FASTNN_BODY { __builtin_prefetch(t.c + i * t.c_row, 1); });
    Index k = t.k;
    if constexpr (kA != Terms::any && kSteps > 1) {
        for (; k >= kSteps; k -= kSteps) {
            unroll<kSteps>(add_step);
            unroll<kGroups>([&](auto g) FASTNN_BODY { a[g] += kSteps * a_col; });
        }
    }
    // Terms of a transposed a lie on a page each, where nothing else fetches them early: 784x1024x256 with
    // trans_a 10 % faster. Elsewhere the prefetch is of what is there.
    const Index ahead = kEdge || kA != Terms::any || t.k < 64 ? 0 : 8 * a_col;
    for (; k > 0; --k) {
        __builtin_prefetch(a[0] + ahead);
        add_step(std::integral_constant<int, 0>{});
        unroll<kGroups>([&](auto g) FASTNN_BODY { a[g] += a_col; });
    }

    if (!t.plain) {
        alignas(64) float sums[MR * NV * W];
        unroll<MR>([&](auto i) FASTNN_BODY {
            unroll<NV>([&](auto v) FASTNN_BODY { store(sums + (i * NV + v) * W, acc[i][v]); });
        });
        finish_buffered(t, sums, MR, NV * W);
        return;
    }
    if (!t.first) {  // c = fma(1, sum, c)
        unroll<MR>([&](auto i) FASTNN_BODY {
            const float* const c = t.c + i * t.c_row;
            unroll<NV - 1>([&](auto v) FASTNN_BODY { acc[i][v] = load(c + v * W) + acc[i][v]; });
            acc[i][NV - 1] = load_last<kEdge>(c + (NV - 1) * W, t.tail) + acc[i][NV - 1];
        });
    }
    // One copy of the stores: a copy for each of bias and ReLU took half as long again to compile.
    if (t.bias != nullptr && t.last) {
        Reg bias[NV];
        unroll<NV - 1>([&](auto v) FASTNN_BODY { bias[v] = load(t.bias + v * W); });
        bias[NV - 1] = load_last<kEdge>(t.bias + (NV - 1) * W, t.tail);
        unroll<MR>([&](auto i) FASTNN_BODY {
            unroll<NV>([&](auto v) FASTNN_BODY { acc[i][v] = acc[i][v] + bias[v]; });
        });
    }
    if (t.relu && t.last) {
        unroll<MR>([&](auto i) FASTNN_BODY {
            unroll<NV>([&](auto v) FASTNN_BODY { acc[i][v] = max_(set1(0.0f), acc[i][v]); });
        });
    }
    unroll<MR>([&](auto i) FASTNN_BODY {
        float* const c = t.c + i * t.c_row;
        unroll<NV - 1>([&](auto v) FASTNN_BODY { store(c + v * W, acc[i][v]); });
        store_last<kEdge>(c + (NV - 1) * W, acc[i][NV - 1], t.tail);
    });
}

using TileFunction = void (*)(const Tile&);

struct TileTable {
    TileFunction by_rows[kMaxRows];  // [rows - 1]
};

template <int NV, bool kEdge, Terms kA, int... I>
constexpr TileTable tile_table(std::integer_sequence<int, I...>) {
    return {{tile<I + 1, NV, kEdge, kA>...}};
}

// Edge panels of any width, [registers - 1]; a full panel has the one width kMaxWidth.
struct EdgeTables {
    TileTable by_width[kMaxWidth];
};

template <int... V>
constexpr EdgeTables edge_tables(std::integer_sequence<int, V...>) {
    return {{tile_table<V + 1, true, Terms::any>(std::make_integer_sequence<int, kRows[V + 1]>{})...}};
}

template <Terms kA>
constexpr TileTable kWhole =
    tile_table<kMaxWidth, false, kA>(std::make_integer_sequence<int, kRows[kMaxWidth]>{});
constexpr EdgeTables kEdge = edge_tables(std::make_integer_sequence<int, kMaxWidth>{});

// Rows of the next tile: full ones, but the last two groups are shared out evenly (a tile of one or two rows
// would leave the FMA units waiting for their own results).
Index next_rows(Index left, Index full) {
    if (left >= 2 * full || left == full) return full;
    return left > full ? (left + 1) / 2 : left;
}

}  // namespace

void finish_buffered(const Tile& t, const float* sums, int rows, int width) {
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
        FASTNN_FLOAT_NS::activate(
            t.other, default_alpha(t.other),
            {.x = t.c, .x_row = t.c_row, .y = t.c, .y_row = t.c_row, .rows = rows, .cols = t.cols});
    }
}

void multiply_block(Tile& t, Index rows, Index cols, Index b_panel, float* packed) {
    const float* const a = t.a;
    const Index a_row = t.a_row, a_col = t.a_col;
    const float* b = t.b;
    const float* bias = t.bias;
    float* c = t.c;
    const auto fill = [&](Index panel, Index row, TileFunction run, const float* from) FASTNN_BODY {
        t.a = from;
        t.b = b + panel * b_panel;
        t.c = c + row * t.c_row + panel * kPanel;
        t.bias = bias == nullptr ? nullptr : bias + panel * kPanel;
        run(t);
    };
    const auto edge = [&](Index first, int width) FASTNN_BODY {
        const int registers = (width + W - 1) / W;
        t.cols = width;
        t.tail = width - (registers - 1) * W;
        const TileTable& table = kEdge.by_width[registers - 1];
        for (Index row = 0, mr = 0; row < rows; row += mr) {
            mr = next_rows(rows - row, kRows[registers]);
            fill(first, row, table.by_rows[mr - 1], a + row * a_row);
        }
    };
    if (b_panel == kPanel && rows <= kBorderRows && t.b_row % W == 0) {
        const auto lead = static_cast<int>(to_border(b));
        if (lead > 0 && cols > 2 * W) {
            edge(0, lead);
            b += lead;
            c += lead;
            if (bias != nullptr) bias += lead;
            cols -= lead;
        }
    }
    const Index full = cols / kPanel;
    const int rest = static_cast<int>(cols % kPanel);
    t.tail = W;
    Index begin = 0;
    if constexpr (kTerms == 1) {
        if (b_panel == kPanel && rows <= 2) {
            // b is read once, where it lies: eight chains a tile, or sixteen, and more of each of its rows at
            // a time.
            const auto wide = [&](int registers, TileFunction run) FASTNN_BODY {
                t.cols = registers * W;
                for (; begin * kPanel + t.cols <= cols; begin += t.cols / kPanel) fill(begin, 0, run, a);
            };
            if (rows == 2) wide(4, tile<2, 4, false, Terms::any>);
            if constexpr (kWide)
                if (rows == 1) wide(16, tile<1, 16, false, Terms::any>);
            if (rows == 1) wide(8, tile<1, 8, false, Terms::any>);
        }
    }
    if constexpr (kTall > 0) {
        if (b_panel == kPanel && a_col == 1 && rows > kRows[kMaxWidth] && rows <= kTall) {
            // One tile high and narrower, so that b is read once.
            const TileFunction run = rows == kTall ? tile<kTall, kTallWidth, false, Terms::side_by_side>
                                                   : tile<kTall - 1, kTallWidth, false, Terms::side_by_side>;
            t.cols = kTallWidth * W;
            for (; cols >= t.cols; cols -= t.cols, b += t.cols, c += t.cols) {
                fill(0, 0, run, a);
                if (bias != nullptr) bias += t.cols;
            }
            if (cols > 0) edge(0, static_cast<int>(cols));
            return;
        }
    }
    t.cols = kPanel;
    const TileTable& whole =
        packed != nullptr || a_col == 1 ? kWhole<Terms::side_by_side> : kWhole<Terms::any>;
    const Index high = packed == nullptr ? rows : kRowsAtOnce;
    for (Index top = 0; full > 0 && top < rows; top += high) {
        const Index end = rows - top < high ? rows : top + high;
        const float* from = a + top * a_row;
        if (packed != nullptr) {
            pack_rows(from, a_col, t.k, end - top, packed);
            from = packed;
            t.a_row = kPackedRow;
            t.a_col = 1;
        }
        for (Index row = top, mr = 0; row < end; row += mr) {
            mr = next_rows(end - row, kRows[kMaxWidth]);
            const TileFunction run = whole.by_rows[mr - 1];
            for (Index panel = begin; panel < full; ++panel) fill(panel, row, run, from);
            from += mr * t.a_row;
        }
    }
    t.a_row = a_row;
    t.a_col = a_col;
    if (rest == 0) return;
    edge(full, rest);
}

}  // namespace fastnn::FASTNN_NS
