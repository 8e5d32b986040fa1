// Packing: b as panels of kPanel columns, row after row, zero-padded on the right; rows of a transposed a.
// Transposes are handled here and only here.
#pragma once

#include "cpu/index.h"
#include "cpu/tile.h"
#include "cpu/vec.h"

namespace fastnn::FASTNN_NS {

// to[j * to_row + i] = from[i * from_row + j] for j < cols, which is a register's width at most, and as many
// i: zero from `rows` on.
FASTNN_INLINE void transpose_square(const float* from, Index from_row, Index rows, Index cols, float* to,
                                    Index to_row) {
    constexpr int W = Reg::kWidth;
    Reg r[W];
    if (rows >= W && cols == W) {
        unroll<W>([&](auto i) FASTNN_BODY { r[i] = load(from + i * from_row); });
    } else {
        unroll<W>([&](auto i) FASTNN_BODY {
            r[i] = i < rows ? load(from + i * from_row, static_cast<int>(cols)) : set1(0.0f);
        });
    }
    transpose(r);
    unroll<W>([&](auto j) FASTNN_BODY {
        if (j < cols) store(to + j * to_row, r[j]);
    });
}

// Panel p of dst: dst[p * k * kPanel + i * kPanel + j] = b[i, p * kPanel + j]; columns beyond `cols` are
// zero.
static inline void pack(const float* b, Index b_row, Index b_col, Index k, Index cols, float* dst) {
    constexpr int W = Reg::kWidth;
    if (b_col == 1) {
        // Row by row: of a panel alone every row would lie on another page, in one set of the cache.
        const Index whole = cols / kPanel * kPanel;
        for (Index i = 0; i < k; ++i, b += b_row, dst += kPanel) {
            float* to = dst;
            Index j = 0;
            for (; j < whole; j += kPanel, to += k * kPanel)
                for (int v = 0; v < kMaxWidth; ++v) store(to + v * W, load(b + j + v * W));
            if (j == cols) continue;
            for (int v = 0; v < kMaxWidth; ++v) {
                const int left = static_cast<int>(cols - j) - v * W;
                const Reg r = left >= W  ? load(b + j + v * W)
                              : left > 0 ? load(b + j + v * W, left)
                                         : set1(0.0f);
                store(to + v * W, r);
            }
        }
        return;
    }
    for (Index p = 0; p < cols; p += kPanel, dst += k * kPanel) {
        const float* const from = b + p * b_col;
        const Index width = cols - p < kPanel ? cols - p : kPanel;
        if (b_row != 1) {
            for (Index i = 0; i < k; ++i)
                for (Index j = 0; j < kPanel; ++j)
                    dst[i * kPanel + j] = j < width ? from[i * b_row + j * b_col] : 0.0f;
            continue;
        }
        // Sixteen steps at a time, so that a cache line is done with before the next register of columns.
        for (Index group = 0; group < k; group += 16)
            for (int v = 0; v < kMaxWidth; ++v)
                for (Index i = group; i < group + 16 && i < k; i += W)
                    transpose_square(from + v * W * b_col + i, b_col, width - v * W, least(k - i, W),
                                     dst + i * kPanel + v * W, kPanel);
    }
}

// to[i * kPackedRow + j] = a[i + j * a_col] for `rows` rows of k terms; what lies behind them is overwritten.
static inline void pack_rows(const float* a, Index a_col, Index k, Index rows, float* to) {
    constexpr Index W = Reg::kWidth;
    for (Index j = 0; j < k; j += W, a += W * a_col, to += W)
        for (Index i = 0; i < rows; i += W)
            transpose_square(a + i, a_col, k - j, least(rows - i, W), to + i * kPackedRow, kPackedRow);
}

}  // namespace fastnn::FASTNN_NS
