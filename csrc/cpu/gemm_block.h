// The micro-kernel of every matrix product: register tiles over one block of K.
#pragma once

#include "cpu/gemm_pack.h"

namespace fastnn::FASTNN_NS {

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
    bool plain;        // alpha 1, beta 0: nothing but earlier blocks, bias and ReLU to add
    bool relu;
    Activation other;  // an activation that is not ReLU
    int cols;
    int tail;  // of them in the last register
};

// What all tiles of a product share.
static inline Tile tile_of(const GemmArgs& g) {
    Tile t{};
    t.a_row = g.a_row;
    t.a_col = g.a_col;
    t.c_row = g.c_row;
    t.alpha = g.alpha;
    t.beta = g.beta;
    t.relu = g.activation == Activation::relu;
    t.other = t.relu ? Activation::none : g.activation;
    t.plain = g.alpha == 1.0f && g.beta == 0.0f && t.other == Activation::none;
    return t;
}

// Floats up to the next border of a vector.
static inline Index to_border(const float* p) {
    constexpr std::uintptr_t kBytes = Reg::kWidth * sizeof(float);
    const std::uintptr_t over = reinterpret_cast<std::uintptr_t>(p) % kBytes;
    return static_cast<Index>((kBytes - over) % kBytes / sizeof(float));
}

// What is left to do with a tile of sums that lies in an L1 buffer, `width` floats a row: alpha, beta, the
// blocks of K before, bias, activation.
__attribute__((noinline)) void finish_buffered(const Tile& t, const float* sums, int rows, int width);

// Fills rows x cols of c, whose upper left tile is `t` (cols and tail are set here). Panels of b are kPanel
// columns wide and lie b_panel floats apart, which is kPanel where b is not packed. With memory of
// kRowsFloats in `packed`, the rows of a, which is transposed then, are packed as well.
void multiply_block(Tile& t, Index rows, Index cols, Index b_panel, float* packed);

}  // namespace fastnn::FASTNN_NS
