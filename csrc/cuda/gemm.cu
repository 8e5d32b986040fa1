// c = activation(alpha * a @ b + beta * c + bias) in float32, with fused multiply-adds: tiles of a and b in
// shared memory, T by T results a thread in registers. Each element is one chain of kBlockK terms after
// another, in order, so that the bits are the CPU's whatever the tile. Tensor cores have other bits.
#include "cuda/entries.h"
#include "cuda/gemm_end.h"
#include "cuda/product_statistics.h"

namespace fastnn {
namespace {

constexpr int kSide = 16;   // threads of a block: kSide by kSide
constexpr int kDepth = 16;  // terms in shared memory at a time
static_assert(kSide * kSide == kThreads && kBlockK % kDepth == 0);

// T is 4 or 8: tiles of 64 or 128. A thread's rows (and columns) are groups of four, kSide * 4 apart, so that
// neighbours read neighbouring words.
template <int T>
struct Tiles {
    static constexpr int kSize = kSide * T;
    static constexpr int kLoads = kSize * kDepth / kThreads;  // elements of each tile that a thread brings
    static constexpr int kRow = kSize + 4;                    // else the transposing store meets one bank
    float a[kDepth][kRow];
    float b[kDepth][kRow];
};

FASTNN_RULE int place(int thread, int i) { return i / 4 * (kSide * 4) + thread * 4 + i % 4; }

// What a thread brings of each tile of a matrix whose element (along, k) stands at p[along * stride + k *
// k_stride], `along` from `first` on. Neighbouring threads read along the shorter stride. Beyond the matrix
// there are zeros.
template <int T>
struct Reader {
    static constexpr int kSize = Tiles<T>::kSize;
    const float* p;    // this thread's first element of the next tile
    Index step, tile;  // from one of its elements to the next, from a tile to the next
    Index left;        // of the matrix, along
    int along, k;      // in the tile
    int next_along, next_k;

    FASTNN_MEMBER Reader(const float* matrix, Index stride, Index k_stride, Index first, Index size) {
        const int thread = static_cast<int>(threadIdx.x);
        const bool short_along = stride < k_stride;
        along = short_along ? thread % kSize : thread / kDepth;
        k = short_along ? thread / kSize : thread % kDepth;
        next_along = short_along ? 0 : kThreads / kDepth;
        next_k = short_along ? kThreads / kSize : 0;
        p = matrix + (first + along) * stride + k * k_stride;
        step = short_along ? next_k * k_stride : next_along * stride;
        tile = kDepth * k_stride;
        left = size - first;
    }
    // The next tile, of which so many terms are in the matrix.
    FASTNN_MEMBER void read(Index terms, float (&values)[Tiles<T>::kLoads]) {
#pragma unroll
        for (int l = 0; l < Tiles<T>::kLoads; ++l) {
            const bool inside = along + l * next_along < left && k + l * next_k < terms;
            values[l] = inside ? p[l * step] : 0.0f;
        }
        p += tile;
    }
    FASTNN_MEMBER void write(float (&to)[kDepth][Tiles<T>::kRow],
                             const float (&values)[Tiles<T>::kLoads]) const {
#pragma unroll
        for (int l = 0; l < Tiles<T>::kLoads; ++l) to[k + l * next_k][along + l * next_along] = values[l];
    }
};

// One term of the T by T chains.
template <int T>
FASTNN_RULE void add_term(const Tiles<T>& tiles, int k, int row, int column, float (&sum)[T][T]) {
    float a[T], b[T];
#pragma unroll
    for (int i = 0; i < T; i += 4) {
        *reinterpret_cast<Pack<4>*>(a + i) = load<4>(&tiles.a[k][place(row, i)]);
        *reinterpret_cast<Pack<4>*>(b + i) = load<4>(&tiles.b[k][place(column, i)]);
    }
#pragma unroll
    for (int i = 0; i < T; ++i)
#pragma unroll
        for (int j = 0; j < T; ++j) sum[i][j] = fma(a[i], b[j], sum[i][j]);
}

// A block of K joins c; behind the last one come bias and activation, or a slope.
template <int T>
FASTNN_RULE void finish(const GemmArgs& g, const Slope& slope, Index r0, Index c0, bool first, bool last,
                        const float (&sum)[T][T]) {
    const int row = static_cast<int>(threadIdx.x) / kSide;
    const int column = static_cast<int>(threadIdx.x) % kSide;
    const CheapEnd cheap = cheap_end(g, slope);
#pragma unroll
    for (int i = 0; i < T; ++i) {
        const Index r = r0 + place(row, i);
        if (r >= g.m) continue;
        float* const out = g.c + r * g.c_row + c0;
#pragma unroll
        for (int j = 0; j < T; ++j) {
            const int c = place(column, j);
            if (c >= g.n - c0) continue;
            float x = first ? g.alpha * sum[i][j] : fma(g.alpha, sum[i][j], out[c]);
            if (first && g.beta != 0.0f) x = fma(g.beta, out[c], x);
            out[c] = last ? end_cheaply(g, slope, cheap, x, r, c0 + c) : x;
        }
    }
    if (!last || !has_rest(g, slope, cheap)) return;
#pragma unroll 1
    for (int i = 0; i < T * T; ++i) {
        const Index r = r0 + place(row, i / T);
        const Index c = c0 + place(column, i % T);
        if (r >= g.m || c >= g.n) continue;
        float* const out = g.c + r * g.c_row + c;
        *out = rest_of_end(g, slope, cheap, *out, r, c);
    }
}

template <int T>
__global__ void __launch_bounds__(kThreads, T == 4 ? 2 : 1)
    gemm(const __grid_constant__ With<GemmArgs> with, unsigned count) {
    FASTNN_SHARED(Tiles<T>, tiles);
    if (blockIdx.x >= count) return sum_columns(with.sums, blockIdx.x - count, &tiles.a[0][0]);
    const GemmArgs& g = with.product;
    const Tile tile = tile_of(g.m, g.n, Tiles<T>::kSize, blockIdx.x);
    const Index r0 = tile.row, c0 = tile.column;
    const int row = static_cast<int>(threadIdx.x) / kSide;
    const int column = static_cast<int>(threadIdx.x) % kSide;
    Reader<T> a(g.a, g.a_row, g.a_col, r0, g.m);
    Reader<T> b(g.b, g.b_col, g.b_row, c0, g.n);
    float next_a[Tiles<T>::kLoads], next_b[Tiles<T>::kLoads];
    a.read(g.k, next_a);
    b.read(g.k, next_b);
    Index k = 0;
    do {  // once where there are no terms
        float sum[T][T] = {};
        const Index end = k + kBlockK < g.k ? k + kBlockK : g.k;
        const bool first = k == 0;
        while (k < end) {
            __syncthreads();  // all have read the tiles before these
            a.write(tiles.a, next_a);
            b.write(tiles.b, next_b);
            __syncthreads();
            const Index left = end - k;
            k += kDepth;
            a.read(g.k - k, next_a);  // while the products are formed
            b.read(g.k - k, next_b);
            if (left >= kDepth) {
#pragma unroll 2
                for (int i = 0; i < kDepth; ++i) add_term<T>(tiles, i, row, column, sum);
            } else {  // no zeros are added: they would make -0 a +0
                for (int i = 0; i < left; ++i) add_term<T>(tiles, i, row, column, sum);
            }
        }
        finish<T>(g, with.slope, r0, c0, first, k >= g.k, sum);
    } while (k < g.k);
    statistics_beside<Tiles<T>::kSize>(with.statistics, tile, tiles);
}

}  // namespace

int cuda_gemm(const GemmArgs& g, void* stream) { return cuda_gemm_with({g, {}, {}, {}}, stream); }

int cuda_gemm_with(const With<GemmArgs>& with, void* stream) {
    const GemmArgs& g = with.product;
    const unsigned sums = blocks_of_sums(with.sums);
    const auto start = [&](auto kernel, int side) {
        const unsigned tiles = tiles_of(g, side);
        FASTNN_LAUNCH(kernel, tiles + sums, kThreads, stream, with, tiles);
        return launched();
    };
    if (tiles_of(g, Tiles<8>::kSize) >= kEnoughTiles) return start(gemm<8>, Tiles<8>::kSize);
    if (tiles_of(g, Tiles<4>::kSize) >= kEnoughTiles) return start(gemm<4>, Tiles<4>::kSize);
    return cuda_gemm_small(with, stream);
}

}  // namespace fastnn
