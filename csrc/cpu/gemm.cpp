// c = activation(alpha * a @ b + beta * c + bias), row-major c.
//
// One chunk is a rectangle of c: a slab of columns times a block of rows. It walks K in blocks of kBlockK
// (pc), packs its part of b if that pays, and fills the rectangle with register tiles (ir, jr:
// gemm_block.cpp). Elements of a are broadcast from where they lie, unless a is transposed; six to fourteen
// rows of it stay in L1 while the panels of b stream from L2. Edges are the same tile with fewer rows, fewer
// registers, and a mask.
#include "cpu/entries.h"
#include "cpu/gemm_block.h"
#include "cpu/gemm_grid.h"
#include "cpu/gemm_transposed.h"

namespace fastnn::FASTNN_NS {
namespace {

// A single term of each row is as good as a row.
bool transposed_a(const GemmArgs& g) { return g.a_row == 1 && g.a_col != 1 && g.k > 1; }

bool in_place(const GemmArgs& g) {
    if (g.b_col != 1) return false;
    if (g.m < kPackRows || g.n < kPanel || (g.m <= kTall && g.a_col == 1)) return true;
    const InPlace& is = g.m <= kFewRows ? kInPlaceFew : kInPlaceMany;
    return reinterpret_cast<std::uintptr_t>(g.b) % (static_cast<std::size_t>(is.align) * sizeof(float)) ==
               0 &&
           g.b_row % is.align == 0 && g.b_row % is.stride != 0 && g.n * g.k <= is.floats;
}

// Few columns of c, and a transposed: registers go along the rows of a, which are the columns of c' = b' a',
// and not along the few of b. Of ten columns sixteen would be computed.
bool few_columns(const GemmArgs& g) {
    return transposed_a(g) && g.m >= kPanel && g.n < kFewColumns && g.b_col == 1 && !g.b_packed &&
           g.alpha == 1.0f && g.beta == 0.0f && g.bias == nullptr && g.activation == Activation::none &&
           g.k_begin == 0 && g.k_end == g.k;
}

// Few rows of c, and b transposed.
bool few_rows(const GemmArgs& g) {
    return kWide && g.m <= kTransposedRows && g.b_row == 1 && g.b_col != 1 && !g.b_packed &&
           (g.m <= 4 || g.n * g.k >= kTransposedFloats);
}

// `rows` rows of c from row r0 on.
void multiply_few_columns(const GemmArgs& g, Index r0, Index rows, float* sums) {
    constexpr Index W = Reg::kWidth;
    alignas(64) float square[W * W];
    Tile t = tile_of(g);
    t.a_row = 1;
    t.a_col = g.b_row;
    t.b_row = g.a_col;
    t.c_row = kColumnsAtOnce;
    for (Index top = r0; top < r0 + rows; top += kColumnsAtOnce) {
        const Index high = least(kColumnsAtOnce, r0 + rows - top);
        for (Index k0 = 0; k0 == 0 || k0 < g.k; k0 += kBlockK) {
            t.k = least(kBlockK, g.k - k0);
            t.first = k0 == 0;
            t.a = g.b + k0 * g.b_row;
            t.b = g.a + top + k0 * g.a_col;
            t.c = sums;
            multiply_block(t, g.n, high, kPanel, nullptr);
        }
        for (Index i = 0; i < high; i += W)
            for (Index j = 0; j < g.n; j += W) {
                const Index across = least(W, high - i);
                transpose_square(sums + j * kColumnsAtOnce + i, kColumnsAtOnce, g.n - j, across, square, W);
                for (Index r = 0; r < across; ++r)
                    store(g.c + (top + i + r) * g.c_row + j, load(square + r * W),
                          static_cast<int>(least(W, g.n - j)));
            }
    }
}

Grid grid_of(const GemmArgs& g) {
    const bool shared = transposed_a(g) && g.m >= kSharedRows;
    const Bounds bounds = shared ? sharing_bounds(g.m, g.n, kSharedSlabFloats) : Bounds{};
    return cut(g.m, g.n, g.k, !g.b_packed && !in_place(g), kLongestChunkFlops, bounds);
}

// Where the panels of the columns from c0 on begin, in a block of K of packed b: blocks lie one after
// another.
template <class Float>
Float* packed_part(Float* b, Index n, Index k0, Index k, Index c0) {
    return b + k0 * round_up(n, kPanel) + c0 * k;
}

// Columns of a packing chunk: whole panels.
Index packed_columns(const PackArgs& p) {
    return most(round_up(stream_chunk(0) / most(p.k, 1), kPanel), kPanel);
}

}  // namespace

int pack_b_chunks(const PackArgs& p) { return static_cast<int>(ceil_div(p.n, packed_columns(p))); }

void pack_b(const PackArgs& p, int chunk, Scratch&) {
    const Index c0 = chunk * packed_columns(p);
    const Index cols = least(packed_columns(p), p.n - c0);
    for (Index k0 = 0; k0 < p.k; k0 += kBlockK) {
        const Index k = least(kBlockK, p.k - k0);
        pack(p.b + k0 * p.b_row + c0 * p.b_col, p.b_row, p.b_col, k, cols, packed_part(p.y, p.n, k0, k, c0));
    }
}

int gemm_chunks(const GemmArgs& g) {
    if (g.m == 0 || g.n == 0) return 0;
    const Grid grid = grid_of(g);
    return static_cast<int>(grid.row_blocks * grid.col_slabs);
}

void gemm(const GemmArgs& g, int chunk, Scratch& scratch) {
    const Grid grid = grid_of(g);
    const Index r0 = chunk % grid.row_blocks * grid.rows;
    const Index c0 = chunk / grid.row_blocks * grid.cols;
    const Index rows = least(grid.rows, g.m - r0);
    const Index cols = least(grid.cols, g.n - c0);
    float* const packed = reinterpret_cast<float*>(scratch.data);
    float* const rows_of_a =
        transposed_a(g) && cols >= kSharingPanels * kPanel ? packed + kSharedSlabFloats : nullptr;

    if (few_columns(g)) return multiply_few_columns(g, r0, rows, packed);
    Tile t = tile_of(g);
    for (Index k0 = g.k_begin; k0 == g.k_begin || k0 < g.k_end; k0 += kBlockK) {
        t.k = least(kBlockK, g.k - k0);
        const float* const b =
            g.b_packed ? packed_part(g.b, g.n, k0, t.k, c0) : g.b + k0 * g.b_row + c0 * g.b_col;
        t.first = k0 == 0;
        t.last = k0 + kBlockK >= g.k;
        t.a = g.a + r0 * g.a_row + k0 * g.a_col;
        t.c = g.c + r0 * g.c_row + c0;
        t.bias = g.bias == nullptr ? nullptr : g.bias + c0;
        if (few_rows(g)) {
            t.b = b;
            multiply_transposed(t, rows, cols, g.b_col);
            continue;
        }
        if (grid.pack) pack(b, g.b_row, g.b_col, t.k, cols, packed);
        t.b = grid.pack ? packed : b;
        const bool panels = grid.pack || g.b_packed;
        t.b_row = panels ? kPanel : g.b_row;
        multiply_block(t, rows, cols, panels ? t.k * kPanel : kPanel, rows_of_a);
    }
}

}  // namespace fastnn::FASTNN_NS
