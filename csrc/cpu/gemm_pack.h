// Packing b: panels of kPanel columns, row after row, zero-padded on the right. Transposes are handled here
// and only here.
#pragma once

#include "cpu/tile.h"
#include "cpu/vec.h"

namespace fastnn::FASTNN_NS {

// dst[i * kPanel + j] = b[i, j] for k rows and `cols` columns of one panel; the other columns are zero.
FASTNN_INLINE void pack_panel(const float* b, Index b_row, Index b_col, Index k, int cols, float* dst) {
    constexpr int W = Reg::kWidth;
    if (b_col == 1) {
        for (Index i = 0; i < k; ++i, b += b_row, dst += kPanel) {
            for (int v = 0; v < kMaxWidth; ++v) {
                const int left = cols - v * W;
                const Reg r = left >= W ? load(b + v * W) : left > 0 ? load(b + v * W, left) : set1(0.0f);
                store(dst + v * W, r);
            }
        }
    } else if (b_row == 1) {
        for (Index i = 0; i < k; i += W) {
            const int rows = static_cast<int>(k - i < W ? k - i : W);
            for (int v = 0; v < kMaxWidth; ++v) {
                Reg r[W];
                for (int j = 0; j < W; ++j) {
                    const int column = v * W + j;
                    r[j] = column < cols ? load(b + column * b_col + i, rows) : set1(0.0f);
                }
                transpose(r);
                for (int j = 0; j < rows; ++j) store(dst + (i + j) * kPanel + v * W, r[j]);
            }
        }
    } else {
        for (Index i = 0; i < k; ++i)
            for (int j = 0; j < kPanel; ++j) dst[i * kPanel + j] = j < cols ? b[i * b_row + j * b_col] : 0.0f;
    }
}

}  // namespace fastnn::FASTNN_NS
