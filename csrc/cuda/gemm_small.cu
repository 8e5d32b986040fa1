// The product of gemm.cu where its tiles are too few to keep the device busy: tiles of 16 or 32, T by T
// results a thread. A small product takes as long as its chains, so the terms of a chain lie side by side in
// shared memory and are read four at a time, and the blocks of a long chain (kBlockK terms, each a chain of
// its own) are formed by up to kGroups groups of threads at once, which the first group then adds in their
// order: the same bits.
#include "cuda/entries.h"
#include "cuda/gemm_end.h"
#include "cuda/product_statistics.h"

namespace fastnn {
namespace {

constexpr int kSide = 16;  // threads of a group: kSide by kSide
static_assert(kSide * kSide == kThreads);

template <int T>
struct Tiles {
    static constexpr int kSize = kSide * T;
    static constexpr int kDepth = 4 * kThreads / kSize;  // terms: each thread brings four of each tile
    static constexpr int kRow = kDepth + 4;  // eight rows' four terms of one number lie in all banks
    alignas(16) float a[kSize][kRow];
    alignas(16) float b[kSize][kRow];
};

// What a thread brings of each tile of a matrix whose element (along, k) stands at p[along * stride + k *
// k_stride]: four terms of one place along. Neighbouring threads read along the shorter stride. Beyond the
// chain there are zeros, which nobody adds.
template <int T>
struct Reader {
    const float* p;  // the first of the four
    Index k_stride;
    int along, k;  // in the tile
    bool inside, packs;

    FASTNN_MEMBER Reader(const float* matrix, Index stride, Index k_stride_, Index first, Index size,
                         Index begin, int thread)
        : k_stride(k_stride_) {
        constexpr int kFours = Tiles<T>::kDepth / 4;
        const bool short_along = stride < k_stride;
        along = short_along ? thread % Tiles<T>::kSize : thread / kFours;
        k = 4 * (short_along ? thread / Tiles<T>::kSize : thread % kFours);
        p = matrix + (first + along) * stride + (begin + k) * k_stride;
        inside = first + along < size;
        packs = k_stride == 1 && reinterpret_cast<std::uintptr_t>(p) % sizeof(Pack<4>) == 0;
    }
    // The next tile, of which so many terms belong to the chain.
    FASTNN_MEMBER Pack<4> read(Index terms) {
        Pack<4> values{};
        if (inside && packs && k + 4 <= terms) {
            values = load<4>(p);
        } else if (inside) {
#pragma unroll
            for (int l = 0; l < 4; ++l)
                if (k + l < terms) values.v[l] = p[l * k_stride];
        }
        p += Tiles<T>::kDepth * k_stride;
        return values;
    }
};

// A group's threads, eight columns of four rows a warp: what a warp reads of either tile lies in all banks
// once.
struct Spot {
    int row, column;
};
FASTNN_RULE Spot spot_of(int thread) {
    const int warp = thread / 32, lane = thread % 32;
    return {warp / 2 * 4 + lane / 8, warp % 2 * 8 + lane % 8};
}

// Terms k ... k + N - 1 of the T by T chains, N 4 or 1.
template <int T, int N>
FASTNN_RULE void add_terms(const Tiles<T>& tiles, int k, Spot spot, float (&sum)[T][T]) {
    Pack<N> a[T], b[T];
#pragma unroll
    for (int i = 0; i < T; ++i) {
        a[i] = load<N>(&tiles.a[spot.row + i * kSide][k]);
        b[i] = load<N>(&tiles.b[spot.column + i * kSide][k]);
    }
#pragma unroll
    for (int l = 0; l < N; ++l)
#pragma unroll
        for (int i = 0; i < T; ++i)
#pragma unroll
            for (int j = 0; j < T; ++j) sum[i][j] = fma(a[i].v[l], b[j].v[l], sum[i][j]);
}

// The chain of a group: terms begin ... of one block of K. All groups stay for the longest.
template <int T>
FASTNN_RULE void form_chains(const GemmArgs& g, const Tile& tile, Index begin, Index longest, int thread,
                             Tiles<T>& tiles, float (&sum)[T][T]) {
    constexpr int kDepth = Tiles<T>::kDepth;
    const Spot spot = spot_of(thread);
    Index terms = g.k - begin < kBlockK ? g.k - begin : kBlockK;
    Reader<T> a(g.a, g.a_row, g.a_col, tile.row, g.m, begin, thread);
    Reader<T> b(g.b, g.b_col, g.b_row, tile.column, g.n, begin, thread);
    Pack<4> next_a = a.read(terms), next_b = b.read(terms);
    for (Index k = 0; k < longest; k += kDepth) {
        __syncthreads();  // all have read the tiles before these
        store<4>(&tiles.a[a.along][a.k], next_a);
        store<4>(&tiles.b[b.along][b.k], next_b);
        __syncthreads();
        const Index here = terms;
        terms -= kDepth;
        next_a = a.read(terms);  // while the products are formed
        next_b = b.read(terms);
        if (here >= kDepth) {
#pragma unroll 4
            for (int i = 0; i < kDepth; i += 4) add_terms<T, 4>(tiles, i, spot, sum);
        } else {
            int i = 0;
            for (; i + 4 <= here; i += 4) add_terms<T, 4>(tiles, i, spot, sum);
            for (; i < here; ++i) add_terms<T, 1>(tiles, i, spot, sum);
        }
    }
}

// The results of a thread on their way out.
template <int T>
FASTNN_RULE void write(const GemmArgs& g, const Slope& slope, const Tile& tile, Spot spot,
                       const float (&result)[T][T]) {
    const CheapEnd cheap = cheap_end(g, slope);
#pragma unroll
    for (int i = 0; i < T * T; ++i) {
        const Index r = tile.row + spot.row + i / T * kSide;
        const Index c = tile.column + spot.column + i % T * kSide;
        if (r < g.m && c < g.n)
            g.c[r * g.c_row + c] = end_cheaply(g, slope, cheap, result[i / T][i % T], r, c);
    }
    if (!has_rest(g, slope, cheap)) return;
#pragma unroll 1
    for (int i = 0; i < T * T; ++i) {
        const Index r = tile.row + spot.row + i / T * kSide;
        const Index c = tile.column + spot.column + i % T * kSide;
        if (r >= g.m || c >= g.n) continue;
        float* const out = g.c + r * g.c_row + c;
        *out = rest_of_end(g, slope, cheap, *out, r, c);
    }
}

template <int T, int kGroups>
__global__ void __launch_bounds__(kThreads* kGroups)
    gemm_small(const __grid_constant__ With<GemmArgs> with, unsigned count) {
    struct Memory {
        Tiles<T> tiles[kGroups];
        // Of a group that has read its tiles: each thread's i-th sum.
        FASTNN_MEMBER float& sum(int group, int i, int thread) {
            return (&tiles[group].a[0][0])[i * kThreads + thread];
        }
    };
    static_assert(sizeof(Tiles<T>::a) >= T * T * kThreads * sizeof(float));
    FASTNN_SHARED(Memory, shared);
    if (blockIdx.x >= count) return sum_columns(with.sums, blockIdx.x - count, &shared.sum(0, 0, 0));
    const GemmArgs& g = with.product;
    const Tile tile = tile_of(g.m, g.n, Tiles<T>::kSize, blockIdx.x);
    const int group = static_cast<int>(threadIdx.x) / kThreads;
    const int thread = static_cast<int>(threadIdx.x) % kThreads;
    const Spot spot = spot_of(thread);
    float result[T][T] = {};

    Index k = 0;
    do {  // once where there are no terms
        const Index longest = g.k - k < kBlockK ? g.k - k : kBlockK;
        float sum[T][T] = {};
        form_chains<T>(g, tile, k + group * kBlockK, longest, thread, shared.tiles[group], sum);
        if constexpr (kGroups > 1) {
            __syncthreads();  // all have read the last tiles
#pragma unroll
            for (int i = 0; i < T * T; ++i) shared.sum(group, i, thread) = sum[i / T][i % T];
            __syncthreads();
        }
        if (group == 0) {
#pragma unroll
            for (int i = 0; i < T * T; ++i) {
                const Index r = tile.row + spot.row + i / T * kSide;
                const Index c = tile.column + spot.column + i % T * kSide;
                float& x = result[i / T][i % T];
                x = k == 0 ? g.alpha * sum[i / T][i % T] : fma(g.alpha, sum[i / T][i % T], x);
                if (k == 0 && g.beta != 0.0f && r < g.m && c < g.n) x = fma(g.beta, g.c[r * g.c_row + c], x);
                for (int other = 1; other < kGroups && k + other * kBlockK < g.k; ++other)
                    x = fma(g.alpha, shared.sum(other, i, thread), x);
            }
        }
        k += kGroups * kBlockK;
    } while (k < g.k);

    if (group == 0) write<T>(g, with.slope, tile, spot, result);
    statistics_beside<Tiles<T>::kSize>(with.statistics, tile, shared);
}

}  // namespace

int cuda_gemm_small(const With<GemmArgs>& with, void* stream) {
    const GemmArgs& g = with.product;
    const unsigned sums = blocks_of_sums(with.sums);
    const auto start = [&](auto kernel, int side, int groups) {
        const unsigned tiles = tiles_of(g, side);
        if (tiles + sums == 0) return 0;
        FASTNN_LAUNCH(kernel, tiles + sums, groups * kThreads, stream, with, tiles);
        return launched();
    };
    if (tiles_of(g, Tiles<2>::kSize) >= kEnoughTiles) return start(gemm_small<2, 1>, Tiles<2>::kSize, 1);
    if (g.k > kBlockK && tiles_of(g, Tiles<1>::kSize) <= 2 * kEnoughTiles)
        return start(gemm_small<1, 4>, Tiles<1>::kSize, 4);
    return start(gemm_small<1, 1>, Tiles<1>::kSize, 1);
}

}  // namespace fastnn
