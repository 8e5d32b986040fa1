// The column sums of a batch-norm over a product, formed beside it by the block of threads that is the last
// to write these columns in a block of kStatRows rows, while they lie in the second-level cache: statistics
// of the forward, or the sums of the gradient. Its threads form what each four rows add at once; one thread a
// column adds these up in their order, so the bits are those of moments.h and gradient_sums.h whatever the
// tile.
#pragma once

#include "cuda/gemm_tiles.h"
#include "cuda/gradient_sums.h"
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
struct SumsPlace {
    static constexpr int kColumns = kSide;
    static constexpr int kFloats = static_cast<int>(sizeof(Shared) / sizeof(float)) - 1 - kSide;
    static constexpr int kFours =  // of rows, at a time
        kFloats / (2 * kSide) < kStatRows / 4 ? kFloats / (2 * kSide) : static_cast<int>(kStatRows / 4);
    static_assert(kFours > 0 && kFloats >= kShiftRows * kSide);
    unsigned flag;
    float shift[kSide];
    union {
        float sample[kShiftRows * kSide];
        Sums fours[kFours * kSide];
    };
};

// A block of rows of the columns of a tile.
struct Strip {
    Index block, row, column;  // its first ones
    int rows, columns;
};

// The sums of a column in this thread, if it is one of the first Strip::columns: of four(r, c) for four rows
// from r on, and one(r, c). All threads call it.
template <class Place, class Four, class One>
FASTNN_RULE Sums sums_of(const Strip& strip, Place& place, Four four, One one) {
    constexpr int kColumns = Place::kColumns;
    const int me = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    Sums sum{};
    for (int first = 0; first < strip.rows / 4; first += Place::kFours) {
        const int here = strip.rows / 4 - first < Place::kFours ? strip.rows / 4 - first : Place::kFours;
#pragma unroll 1  // a large block of threads has no registers for more than four rows at a time
        for (int i = me; i < here * kColumns; i += threads) {
            const int c = i % kColumns;
            if (c < strip.columns) place.fours[i] = four(4 * (first + i / kColumns), c);
        }
        __syncthreads();
        for (int i = 0; me < strip.columns && i < here; ++i) sum.add(place.fours[i * kColumns + me]);
        __syncthreads();  // before the next ones
    }
    if (me < strip.columns)
        for (int r = strip.rows / 4 * 4; r < strip.rows; ++r) sum.add(one(r, me));
    return sum;
}

// What other blocks of threads have written is not read from L1.
template <class Place>
FASTNN_RULE void sums_of_strip(const BatchNormArgs& a, const ColumnGrid& g, const Strip& strip,
                               Place& place) {
    constexpr int kColumns = Place::kColumns;
    const int me = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    const float* const corner = a.x + strip.row * a.x_row + strip.column;
    const auto x = [&](int row, int column) { return __ldcg(corner + row * a.x_row + column); };
    const int samples = strip.rows < kShiftRows ? strip.rows : static_cast<int>(kShiftRows);
    for (int i = me; i < samples * kColumns; i += threads)
        if (i % kColumns < strip.columns)
            place.sample[i] = x(static_cast<int>(shift_row(i / kColumns, strip.rows)), i % kColumns);
    __syncthreads();
    if (me < strip.columns) {
        float shift = 0.0f;
        for (int i = 0; i < samples; ++i) shift += place.sample[i * kColumns + me];
        place.shift[me] = shift * (1.0f / static_cast<float>(samples));
    }
    __syncthreads();
    const Sums sum = sums_of(
        strip, place,
        [&](int r, int c) {
            return sums_of_four(x(r, c), x(r + 1, c), x(r + 2, c), x(r + 3, c), place.shift[c]);
        },
        [&](int r, int c) { return sums_of_one(x(r, c), place.shift[c]); });
    if (me >= strip.columns) return;
    const Index at = strip.block * g.padded + strip.column + me;
    plane(a, g, 0)[at] = place.shift[me];
    plane(a, g, 1)[at] = sum.plain;
    plane(a, g, 2)[at] = sum.products;
}

template <class Place>
FASTNN_RULE void sums_of_strip(const BatchNormBackwardArgs& a, const ColumnGrid& g, const Strip& strip,
                               Place& place) {
    const int me = static_cast<int>(threadIdx.x);
    const auto dy = [&](int row, int column) {
        const Index r = strip.row + row, c = strip.column + column;
        const Pack<1> all{__ldcg(a.dy + r * a.dy_row + c)};
        return a.activation == Activation::none ? all.v[0]
                                                : passed<1>(a.activation, all, {a.y[r * a.y_row + c]}).v[0];
    };
    const auto x = [&](int row, int column) {
        return a.x[(strip.row + row) * a.x_row + strip.column + column];
    };
    const auto mean = [&](int column) { return a.mean[strip.column + column]; };
    const Sums sum = sums_of(
        strip, place,
        [&](int r, int c) {
            float dy_of[4], x_of[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                dy_of[i] = dy(r + i, c);
                x_of[i] = x(r + i, c);
            }
            return gradient_of_four(dy_of, x_of, mean(c));
        },
        [&](int r, int c) { return gradient_of_one(dy(r, c), x(r, c), mean(c)); });
    if (me >= strip.columns) return;
    const Index at = strip.block * g.padded + strip.column + me;
    plane(a, g, 0)[at] = sum.products;
    plane(a, g, 1)[at] = sum.plain;
}

// By all threads of a block that has written its tile of kSide rows and columns.
template <int kSide, class Args, class Shared>
FASTNN_CALLED void form_statistics(const Args& a, unsigned* arrived, Tile tile, Shared& shared) {
    auto& place = reinterpret_cast<SumsPlace<kSide, Shared>&>(shared);
    static_assert(sizeof(place) <= sizeof(Shared));
    const ColumnGrid g = column_grid(a.rows, a.cols);
    arrived += tile.column / kSide * (g.blocks + 1);
    const Index left = a.cols - tile.column;
    const int columns = static_cast<int>(left < kSide ? left : kSide);
    const Index end = tile.row + kSide < a.rows ? tile.row + kSide : a.rows;
    for (Index block = tile.row / kStatRows; block * kStatRows < end; ++block) {
        const Index begin = block * kStatRows;
        const Index stop = begin + kStatRows < a.rows ? begin + kStatRows : a.rows;
        if (!all_arrived(arrived[block], (stop - 1) / kSide - begin / kSide + 1, place.flag)) continue;
        sums_of_strip(a, g, {block, begin, tile.column, static_cast<int>(stop - begin), columns}, place);
        if (g.blocks > 1 && !all_arrived(arrived[g.blocks], g.blocks, place.flag)) continue;
        const int me = static_cast<int>(threadIdx.x);
        if (me < columns) finish_blocks(a, g, tile.column + me);
    }
}
template <int kSide, class Shared>
FASTNN_CALLED void form_either(const Statistics& s, Tile tile, Shared& shared) {
    if (s.norm.x != nullptr) form_statistics<kSide>(s.norm, s.arrived, tile, shared);
    if (s.backward.dy != nullptr) form_statistics<kSide>(s.backward, s.arrived, tile, shared);
}
template <int kSide, class Shared>
FASTNN_RULE void statistics_beside(const Statistics& s, Tile tile, Shared& shared) {
    if (s.arrived != nullptr) form_either<kSide>(s, tile, shared);
}

}  // namespace fastnn
