// Few rows of c, and b transposed: the gradient of a layer's input at small batches. Squares of b are
// transposed into a buffer of the first-level cache and used there. Packed as panels b was written to the
// second-level cache and read from it again, for less work than that takes.
#pragma once

#include <utility>

#include "cpu/gemm_block.h"

namespace fastnn::FASTNN_NS {

// Registers of c. More at a time would be more rows of b than what fetches ahead can follow.
static constexpr int strip_width(int rows) { return rows <= 3 ? 2 : 1; }

// MR rows of c, of whose columns t.cols are there: sums[i * width + j]. b: its first term.
template <int MR>
FASTNN_FLAT static void strip(const Tile& t, const float* b, Index b_col, float* sums) {
    constexpr int W = Reg::kWidth, NV = strip_width(MR);
    alignas(64) float squares[NV * W * W];
    Reg acc[MR][NV];
    unroll<MR>([&](auto i) FASTNN_BODY { unroll<NV>([&](auto v) FASTNN_BODY { acc[i][v] = set1(0.0f); }); });
    const Index a_row = t.a_row, a_col = t.a_col;
    const float* a = t.a;
    // Lines of rows that lie 2^n floats apart share a set, which holds fewer than a square has: each is read
    // once where squares begin at its border.
    Index terms = b_col % W == 0 ? to_border(b) : 0;
    if (terms == 0 || terms > t.k) terms = least(W, t.k);
    for (Index k = t.k; k > 0; k -= terms, b += terms, terms = least(W, k)) {
        unroll<NV>([&](auto v) FASTNN_BODY {
            transpose_square(b + v * W * b_col, b_col, t.cols - v * W, terms, squares + v * W * W, W);
        });
        __asm__ volatile("" ::: "memory");
        for (Index u = 0; u < terms; ++u, a += a_col) {
            Reg bv[NV];
            unroll<NV>([&](auto v) FASTNN_BODY { bv[v] = load(squares + (v * W + u) * W); });
            unroll<MR>([&](auto i) FASTNN_BODY {
                const Reg av = set1(a[i * a_row]);
                unroll<NV>([&](auto v) FASTNN_BODY { acc[i][v] = add_products(av, bv[v], acc[i][v]); });
            });
        }
    }
    unroll<MR>([&](auto i) FASTNN_BODY {
        unroll<NV>([&](auto v) FASTNN_BODY { store(sums + (i * NV + v) * W, acc[i][v]); });
    });
}

using Strip = void (*)(const Tile&, const float*, Index, float*);

template <int... I>
static constexpr auto strips(std::integer_sequence<int, I...>) {
    struct {
        Strip by_rows[sizeof...(I)];
    } table{{strip<I + 1>...}};
    return table;
}

static constexpr auto kStrips = strips(std::make_integer_sequence<int, kTransposedRows>{});

// Fills rows x cols of c, at most kTransposedRows rows, where the terms of a column of b, which begins at
// t.b, lie side by side and its columns b_col floats apart.
static inline void multiply_transposed(Tile& t, Index rows, Index cols, Index b_col) {
    alignas(64) float sums[kTransposedRows * 2 * Reg::kWidth];
    const int width = strip_width(static_cast<int>(rows)) * Reg::kWidth;
    const float* b = t.b;
    for (Index j = 0; j < cols; j += width, b += width * b_col) {
        t.cols = static_cast<int>(least(width, cols - j));
        kStrips.by_rows[rows - 1](t, b, b_col, sums);
        finish_buffered(t, sums, static_cast<int>(rows), width);
        t.c += width;
        if (t.bias != nullptr) t.bias += width;
    }
}

}  // namespace fastnn::FASTNN_NS
