// Packing b: panels of kPanel columns, row after row, zero-padded on the right. Transposes are handled here
// and only here.
#pragma once

#include "cpu/tile.h"
#include "cpu/vec.h"

namespace fastnn::FASTNN_NS {

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
                for (Index i = group; i < group + 16 && i < k; i += W) {
                    const int steps = static_cast<int>(k - i < W ? k - i : W);
                    Reg r[W];
                    if (steps == W && width >= (v + 1) * W) {
                        unroll<W>([&](auto j) FASTNN_BODY { r[j] = load(from + (v * W + j) * b_col + i); });
                    } else {
                        unroll<W>([&](auto j) FASTNN_BODY {
                            const int column = v * W + j;
                            r[j] = column < width ? load(from + column * b_col + i, steps) : set1(0.0f);
                        });
                    }
                    transpose(r);
                    unroll<W>([&](auto j) FASTNN_BODY {
                        if (j < steps) store(dst + (i + j) * kPanel + v * W, r[j]);
                    });
                }
    }
}

}  // namespace fastnn::FASTNN_NS
