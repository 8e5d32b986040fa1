// The statistics of batch-norm over the columns of a product, formed beside it by the block of threads that
// is the last to write these columns in a block of kStatRows rows, while they lie in the second-level cache.
// Its threads form what each four rows add at once; one thread a column adds these up in their order, so the
// bits are those of moments.h whatever the tile.
#pragma once

#include "cuda/gemm_tiles.h"
#include "cuda/moments.h"

namespace fastnn {

// Whether this is the last of so many blocks of threads, all of whose threads have written and call this.
// `flag` is shared, and nobody writes it before the next call.
FASTNN_RULE bool all_arrived(unsigned& arrived, Index blocks, unsigned& flag) {
    __syncthreads();  // all have written, and read what `flag` lies over
    if (threadIdx.x == 0) flag = is_last_block(arrived, static_cast<unsigned>(blocks)) ? 1 : 0;
    __syncthreads();
    return flag != 0;
}

// The place in shared memory, over that of a product of kSide columns which is done.
template <int kSide, class Shared>
struct MomentsPlace {
    static constexpr int kFloats = static_cast<int>(sizeof(Shared) / sizeof(float)) - 1 - kSide;
    // Four rows each; their plain sums and squares.
    static constexpr int kFours =
        kFloats / (2 * kSide) < kStatRows / 4 ? kFloats / (2 * kSide) : static_cast<int>(kStatRows / 4);
    static_assert(kFours > 0 && kFloats >= kShiftRows * kSide);
    unsigned flag;
    float shift[kSide];
    union {
        float sample[kShiftRows * kSide];
        Sums fours[kFours * kSide];
    };
};

// Columns first ... of block `block` of the rows, to the planes of partial sums. All threads call it.
template <int kSide, class Place>
FASTNN_RULE void moments_of_block(const BatchNormArgs& a, const ColumnGrid& g, Index first, Index block,
                                  Place& place) {
    const int me = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    const Index begin = block * kStatRows;
    const int rows = static_cast<int>(a.rows - begin < kStatRows ? a.rows - begin : kStatRows);
    const int columns = static_cast<int>(a.cols - first < kSide ? a.cols - first : kSide);
    const float* const corner = a.x + begin * a.x_row + first;
    // Other blocks of threads have written x: not from L1.
    const auto x = [&](int row, int column) { return __ldcg(corner + row * a.x_row + column); };
    const int samples = rows < kShiftRows ? rows : static_cast<int>(kShiftRows);
    for (int i = me; i < samples * kSide; i += threads)
        if (i % kSide < columns) place.sample[i] = x(static_cast<int>(shift_row(i / kSide, rows)), i % kSide);
    __syncthreads();
    if (me < columns) {
        float shift = 0.0f;
        for (int i = 0; i < samples; ++i) shift += place.sample[i * kSide + me];
        place.shift[me] = shift * (1.0f / static_cast<float>(samples));
    }
    __syncthreads();
    Sums sum{};
    for (int four = 0; four < rows / 4; four += Place::kFours) {
        const int here = rows / 4 - four < Place::kFours ? rows / 4 - four : Place::kFours;
#pragma unroll 1  // a large block of threads has no registers for more than four loads at a time
        for (int i = me; i < here * kSide; i += threads) {
            const int r = 4 * (four + i / kSide), c = i % kSide;
            if (c < columns)
                place.fours[i] = sums_of_four(x(r, c), x(r + 1, c), x(r + 2, c), x(r + 3, c), place.shift[c]);
        }
        __syncthreads();
        for (int i = 0; me < columns && i < here; ++i) {
            sum.plain += place.fours[i * kSide + me].plain;
            sum.squares += place.fours[i * kSide + me].squares;
        }
        __syncthreads();  // before the next ones
    }
    if (me >= columns) return;
    const float shift = place.shift[me];
    for (int r = rows / 4 * 4; r < rows; ++r) {
        const Sums one = sums_of_one(x(r, me), shift);
        sum.plain += one.plain;
        sum.squares += one.squares;
    }
    const Index at = block * g.padded + first + me;
    plane(a, g, 0)[at] = shift;
    plane(a, g, 1)[at] = sum.plain;
    plane(a, g, 2)[at] = sum.squares;
}

// By all threads of a block that has written its tile of kSide rows and columns.
template <int kSide, class Shared>
FASTNN_CALLED void form_moments(const Moments& m, Tile tile, Shared& shared) {
    const BatchNormArgs& a = m.norm;
    auto& place = reinterpret_cast<MomentsPlace<kSide, Shared>&>(shared);
    static_assert(sizeof(place) <= sizeof(Shared));
    const ColumnGrid g = column_grid(a.rows, a.cols);
    unsigned* const arrived = m.arrived + tile.column / kSide * (g.blocks + 1);
    const Index end = tile.row + kSide < a.rows ? tile.row + kSide : a.rows;
    for (Index block = tile.row / kStatRows; block * kStatRows < end; ++block) {
        const Index first = block * kStatRows / kSide;
        const Index last = ((block + 1) * kStatRows < a.rows ? (block + 1) * kStatRows : a.rows) - 1;
        if (!all_arrived(arrived[block], last / kSide - first + 1, place.flag)) continue;
        moments_of_block<kSide>(a, g, tile.column, block, place);
        if (g.blocks > 1 && !all_arrived(arrived[g.blocks], g.blocks, place.flag)) continue;
        const Index j = tile.column + static_cast<int>(threadIdx.x);
        if (threadIdx.x < kSide && j < a.cols) finish_blocks(a, g, j);
    }
}
template <int kSide, class Shared>
FASTNN_RULE void moments_beside(const Moments& m, Tile tile, Shared& shared) {
    if (m.norm.x != nullptr) form_moments<kSide>(m, tile, shared);
}

}  // namespace fastnn
