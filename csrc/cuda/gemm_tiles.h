// How a product is cut into square tiles, a block of threads each.
#pragma once

#include "cuda/launch.h"

namespace fastnn {

constexpr unsigned kEnoughTiles = 132;  // large ones where each multiprocessor of an H100 gets one

inline unsigned tiles_of(const GemmArgs& g, int side) {
    return blocks_for(g.m, side) * blocks_for(g.n, side);
}

struct Tile {
    Index row, column;  // of the result
};
// Blocks that run together share what they read: eight rows of tiles, one column of them after another.
FASTNN_RULE Tile tile_of(Index rows, Index cols, int side, unsigned block) {
    constexpr Index kGroup = 8;
    const Index down = (rows + side - 1) / side, across = (cols + side - 1) / side;
    const Index first = block / (kGroup * across) * kGroup;
    const Index group = down - first < kGroup ? down - first : kGroup;
    const Index inside = block - first * across;
    return {(first + inside % group) * side, inside / group * side};
}

}  // namespace fastnn
