// How a product is cut into chunks: by its shape, never by threads. The bits do not see it.
#pragma once

#include "cpu/index.h"
#include "cpu/tile.h"

namespace fastnn::FASTNN_NS {

struct Grid {
    Index rows, cols;  // of one chunk
    Index row_blocks, col_slabs;
    bool pack;
};

// Of a chunk: its fewest columns, its fewest rows where it packs its part of b, and that part's most floats;
// rows that are packed together.
struct Bounds {
    Index cols = kMinSlab, rows = kMinPackedRows, slab_floats = kSlabFloats, rows_together = 0;
};

// Where a is packed once more for each slab, and b for each block of rows.
static inline Bounds sharing_bounds(Index m, Index n, Index slab_floats) {
    const auto quarter = [](Index size) { return most(kMinShared, least(kMaxShared, size / 4)); };
    return {.cols = quarter(n),
            .rows = quarter(m),
            .slab_floats = slab_floats,
            .rows_together = n >= kSharingPanels * kPanel ? kRowsAtOnce : 0};
}

// k counts steps of the tile; pack: b is packed by every chunk.
static inline Grid cut(Index m, Index n, Index k, bool pack, double longest_flops,
                       const Bounds& bounds = {}) {
    Grid grid{};
    grid.pack = pack;
    const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
    if (flops < kChunkFlops && n <= bounds.cols) {
        // One chunk. The divisions below were a fifth of an 8x8 call.
        grid.rows = m;
        grid.cols = round_up(n, kPanel);
        grid.row_blocks = grid.col_slabs = 1;
        return grid;
    }
    // To read an element of b costs a flop or two, to pack it tens of them: which matters where rows are
    // few. To write one of c costs eight, which matters where terms are.
    const double work = flops + (pack ? 32.0 : 2.0) * static_cast<double>(n) * static_cast<double>(k) +
                        8.0 * static_cast<double>(m) * static_cast<double>(n);
    const double few = work / kChunkFlops + 1.0 < kMaxChunks ? work / kChunkFlops + 1.0 : kMaxChunks;
    const double many = flops / longest_flops;
    const Index want = static_cast<Index>(many > few ? (many < 1e5 ? many : 1e5) : few);
    const Index widest = most(kPanel, bounds.slab_floats / most(least(k, kBlockK), 1) / kPanel * kPanel);
    // Columns first: slabs share no part of b, so nothing is packed twice. Of few terms b is nothing, and
    // whole rows of c are written in their order.
    const bool whole = k <= kFewTerms && n <= kWholeRows;
    grid.cols = least(whole ? n : most(round_up(ceil_div(n, want), kPanel), bounds.cols), widest);
    grid.col_slabs = ceil_div(n, grid.cols);
    grid.cols = round_up(ceil_div(n, grid.col_slabs), kPanel);
    grid.col_slabs = ceil_div(n, grid.cols);
    // Then rows: every block of them packs its slab again.
    const Index least_rows = pack && !whole ? bounds.rows : kMinRows;
    const Index blocks = ceil_div(want, grid.col_slabs);
    // Alike: 784 rows in blocks of 256 left one of 16, and 784x128x256 took two threads 1.15 to 1.45 times as
    // long. But of as many rows as are packed at a time: in blocks of 49 the last went by alone, and it took
    // 1.07 times as long. Or of whole tiles.
    const Index alike = ceil_div(m, ceil_div(m, most(ceil_div(m, blocks), least_rows)));
    if (bounds.rows_together == 0)
        grid.rows = round_up(alike, kTileRows);
    else
        grid.rows = pack || alike < bounds.rows_together ? alike : alike - alike % bounds.rows_together;
    grid.row_blocks = ceil_div(m, grid.rows);
    return grid;
}

}  // namespace fastnn::FASTNN_NS
