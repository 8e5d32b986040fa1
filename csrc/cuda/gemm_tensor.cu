// c = activation(alpha * a @ b + beta * c + bias) on tensor cores: of bfloat16 numbers, or of float32 numbers
// rounded to TF32, summed in float32. A block of threads forms a square of the result, a warp 32 columns of
// it. The tiles of a and b pass through three stages of shared memory: while one is multiplied, the next two
// are on their way. The bits are the same every run, but not the CPU's: how a tensor core adds is its own.
#include "cuda/bf16.h"
#include "cuda/entries.h"
#include "cuda/gemm_end.h"
#include "cuda/product_library.h"
#include "cuda/product_statistics.h"
#include "cuda/tensor_core.h"

namespace fastnn {
namespace {

constexpr int kStages = 3;
constexpr int kChunk = 16;     // bytes that one thread copies at a time
constexpr int kRowBytes = 64;  // of K in a stage: four chunks, two products of a tensor core
constexpr int kWarpSide = 32;  // columns of a warp
// Sides of the square. The large one takes operands in chunks alone: the way without them needs registers.
constexpr int kLarge = 128, kSmall = 64;
template <class T>
constexpr int kDepth = kRowBytes / static_cast<int>(sizeof(T));  // terms of a stage
template <class T>
constexpr int kEach = kChunk / static_cast<int>(sizeof(T));  // numbers of a chunk

// A stage of one operand: kSide rows of a (columns of b), `along`, by kDepth terms. Rows of shared memory are
// what is contiguous in the matrix: terms, or (kAcross) neighbours along. The chunks of a row change places
// by its number, so that eight rows' chunks of one number lie in all banks.
template <class T, int kSide, bool kAcross>
struct Layout {
    static constexpr int kChunks = (kAcross ? kSide : kDepth<T>) / kEach<T>;  // of a row
    static constexpr int place(int row, int chunk) {
        const int shift = !kAcross ? row / 2 % 4 : sizeof(T) == 2 ? row % 8 : row % 4 * 2;
        return (row * kChunks + (chunk ^ shift)) * kChunk;
    }
};

template <class T>
struct Operand {
    const T* data;
    Index stride, k_stride;  // from an element to the next along, and in K
    Index size;              // along
    bool chunks;             // every chunk of the matrix is aligned
};

// What one thread brings of the stages of an operand, one after another. Beyond the matrix there are zeros.
template <class T, int kSide, bool kAcross>
struct Reader {
    using Place = Layout<T, kSide, kAcross>;
    static constexpr int kThreads = 2 * kSide;
    static constexpr int kOwn = kSide * kRowBytes / kChunk / kThreads;  // chunks
    const T* from[kOwn];
    int depth[kOwn];  // its first term in the stage
    int most[kOwn];   // numbers of its chunk that are in the matrix, along
    int to[kOwn];
    Index left;         // terms from the stage on
    Index stage, step;  // from a stage to the next, from a number of a chunk to the next
    bool chunks;

    FASTNN_MEMBER Reader(const Operand<T>& x, Index first, Index terms) {
        left = terms;
        stage = kDepth<T> * x.k_stride;
        step = kAcross ? x.stride : x.k_stride;
        chunks = x.chunks;
#pragma unroll
        for (int i = 0; i < kOwn; ++i) {
            const int number = static_cast<int>(threadIdx.x) + i * kThreads;
            const int row = number / Place::kChunks, chunk = number % Place::kChunks;
            const int along = kAcross ? chunk * kEach<T> : row;
            depth[i] = kAcross ? row : chunk * kEach<T>;
            const Index inside = x.size - first - along;
            from[i] = x.data + (first + along) * x.stride + depth[i] * x.k_stride;
            to[i] = Place::place(row, chunk);
            most[i] = inside <= 0 ? 0 : !kAcross || inside > kEach<T> ? kEach<T> : static_cast<int>(inside);
        }
    }
    FASTNN_MEMBER void bring(unsigned char* tile) {
#pragma unroll
        for (int i = 0; i < kOwn; ++i) {
            int count = left > depth[i] ? most[i] : 0;
            if (!kAcross && left - depth[i] < count) count = static_cast<int>(left - depth[i]);
            if (kSide == kLarge || chunks) {
                copy_chunk(tile + to[i], from[i], count * static_cast<int>(sizeof(T)));
            } else {
                T numbers[kEach<T>];
#pragma unroll
                for (int l = 0; l < kEach<T>; ++l) numbers[l] = l < count ? from[i][l * step] : T{};
#pragma unroll
                for (int l = 0; l < kEach<T>; ++l) reinterpret_cast<T*>(tile + to[i])[l] = numbers[l];
            }
            from[i] += stage;
        }
        left -= kDepth<T>;
    }
};

// What a tensor core takes of an operand, 16 rows of a or columns of b from first + 16 i on, in one half of
// the stage (`step`): four matrices of 8 by 16 bytes. Matrix j of a is its lower or upper eight (j % 2) in
// terms of the first or second quarter (j / 2); of b the other way round. `first` is a multiple of 32.
template <class T, int kSide, bool kAcross, bool kOfB>
FASTNN_RULE void load_operand(const unsigned char* tile, int first, int i, int step, unsigned (&r)[4]) {
    using Place = Layout<T, kSide, kAcross>;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int upper = kOfB ? lane / 16 : lane / 8 % 2, second = kOfB ? lane / 8 % 2 : lane / 16;
    const int along = first + 16 * i + 8 * upper;
    if constexpr (!kAcross) {
        load_matrices(tile + Place::place(along + lane % 8, 2 * step + second), r);
    } else if constexpr (sizeof(T) == 2) {
        load_transposed(tile + Place::place(16 * step + 8 * second + lane % 8, along / 8), r);
    } else {  // there is no transposing load of 32 bits
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const int row = 8 * step + 4 * (kOfB ? j % 2 : j / 2) + lane % 4;
            // place(row, first / 4 + 8 (i / 2) + chunk), in words that let all i share four offsets
            const int chunk = 4 * (i % 2) + 2 * (kOfB ? j / 2 : j % 2) + lane / 16;
            const int at = row * Place::kChunks + first / 4 + i / 2 * 8 + (chunk ^ lane % 4 * 2);
            r[j] = reinterpret_cast<const unsigned*>(tile)[4 * at + lane / 4 % 4];
        }
    }
    if constexpr (sizeof(T) == 4) {
#pragma unroll
        for (unsigned& bits : r) bits = rounded_to_tf32(bits);
    }
}

FASTNN_RULE void multiply(BFloat16, float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    multiply_bf16(d, a, b0, b1);
}
FASTNN_RULE void multiply(float, float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    multiply_tf32(d, a, b0, b1);
}

template <class T>
struct TensorArgs {
    GemmArgs g;
    Operand<T> a, b;
    BFloat16* c;  // the result rounded; that or g.c may be null
    Slope slope;
    ColumnSumArgs sums;
    Statistics statistics;
    unsigned count;  // of tiles
};

// Rows of a warp's sums, on their way to the result: a lane has a column there. Rows are so far apart that
// the pairs of eight rows lie in all banks.
struct Sums {
    static constexpr int kRow = kWarpSide + 8;
    float rows[16][kRow];
};

template <class T, int kSide>
struct Stages {
    alignas(128) unsigned char a[kStages][kSide * kRowBytes];
    alignas(128) unsigned char b[kStages][kSide * kRowBytes];
    FASTNN_MEMBER Sums& sums(int warp) { return reinterpret_cast<Sums*>(this)[warp]; }
};

template <bool kCheap, class T>
FASTNN_RULE void put(const TensorArgs<T>& t, CheapEnd cheap, float sum, Index r, Index c) {
    const GemmArgs& g = t.g;
    const Index at = r * g.c_row + c;
    float x = g.alpha * sum;
    if (g.beta != 0.0f) x = fma(g.beta, g.c != nullptr ? g.c[at] : widened(t.c[at]), x);
    x = end_cheaply(g, t.slope, cheap, x, r, c);
    if constexpr (!kCheap) x = rest_of_end(g, t.slope, cheap, x, r, c);
    if (t.c != nullptr) t.c[at] = narrowed(x);
    if (g.c != nullptr) g.c[at] = x;
}

template <class T>
FASTNN_RULE void finish(const TensorArgs<T>& t, const Sums& sums, Index r0, Index c) {
    const GemmArgs& g = t.g;
    if (c >= g.n) return;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int rows = g.m - r0 < 16 ? static_cast<int>(g.m - r0) : 16;
    const CheapEnd cheap = cheap_end(g, t.slope);
    if (has_rest(g, t.slope, cheap)) {
#pragma unroll 1
        for (int i = 0; i < rows; ++i) put<false>(t, cheap, sums.rows[i][lane], r0 + i, c);
    } else {
#pragma unroll 4
        for (int i = 0; i < rows; ++i) put<true>(t, cheap, sums.rows[i][lane], r0 + i, c);
    }
}

template <class T, int kSide, bool kAcrossA, bool kAcrossB>
__global__ void __launch_bounds__(2 * kSide, 256 / kSide)
    gemm_tensor(const __grid_constant__ TensorArgs<T> t) {
    using Shared = Stages<T, kSide>;
    constexpr int kRows = kSide / 2;                 // of a warp
    constexpr int kRowTiles = kRows / 16;            // of a tensor core, along its rows
    constexpr int kColumnTiles = kWarpSide / 8;      // and its columns
    constexpr int kWarpsAcross = kSide / kWarpSide;  // by two
    static_assert(sizeof(Sums) * 2 * kWarpsAcross <= sizeof(Shared));
    FASTNN_SHARED(Shared, shared);
    if (blockIdx.x >= t.count)
        return sum_columns(t.sums, blockIdx.x - t.count, reinterpret_cast<float*>(&shared));
    const GemmArgs& g = t.g;
    const Tile tile = tile_of(g.m, g.n, kSide, blockIdx.x);
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int row = warp / kWarpsAcross * kRows, column = warp % kWarpsAcross * kWarpSide;
    Reader<T, kSide, kAcrossA> a(t.a, tile.row, g.k);
    Reader<T, kSide, kAcrossB> b(t.b, tile.column, g.k);
    float sum[kRowTiles][kColumnTiles][4] = {};

    const int stages = static_cast<int>((g.k + kDepth<T> - 1) / kDepth<T>);
    for (int s = 0; s < kStages - 1; ++s) {
        if (s < stages) {
            a.bring(shared.a[s]);
            b.bring(shared.b[s]);
        }
        end_copies();
    }
    int now = 0;
    for (int s = 0; s < stages; ++s) {
        wait_copies<kStages - 2>();
        __syncthreads();  // stage `now` is there, and all have read the one before it
        const int free = now == 0 ? kStages - 1 : now - 1;
        if (s + kStages - 1 < stages) {
            a.bring(shared.a[free]);
            b.bring(shared.b[free]);
        }
        end_copies();
#pragma unroll
        for (int step = 0; step < 2; ++step) {
            unsigned of_a[kRowTiles][4], of_b[kColumnTiles / 2][4];
#pragma unroll
            for (int i = 0; i < kRowTiles; ++i)
                load_operand<T, kSide, kAcrossA, false>(shared.a[now], row, i, step, of_a[i]);
#pragma unroll
            for (int j = 0; j < kColumnTiles / 2; ++j)
                load_operand<T, kSide, kAcrossB, true>(shared.b[now], column, j, step, of_b[j]);
#pragma unroll
            for (int i = 0; i < kRowTiles; ++i)
#pragma unroll
                for (int j = 0; j < kColumnTiles; ++j)
                    multiply(T{}, sum[i][j], of_a[i], of_b[j / 2][j % 2 * 2], of_b[j / 2][j % 2 * 2 + 1]);
        }
        now = now == kStages - 1 ? 0 : now + 1;
    }

    __syncthreads();  // all have read the last stage: sums take their place
    Sums& sums = shared.sums(warp);
    const int group = lane / 4, pair = lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
        __syncwarp();  // the rows before these are read
#pragma unroll
        for (int j = 0; j < kColumnTiles; ++j)
#pragma unroll
            for (int h = 0; h < 2; ++h)
                store<2>(&sums.rows[group + 8 * h][8 * j + pair], {sum[i][j][2 * h], sum[i][j][2 * h + 1]});
        __syncwarp();
        finish(t, sums, tile.row + row + 16 * i, tile.column + column + lane);
    }
    if constexpr (kSide == kSmall) statistics_beside<kSide>(t.statistics, tile, shared);
}

// Without the memory for partial sums that column_sum.cu has.
struct PartialSums {
    float of_thread[kThreads];
};
__global__ void __launch_bounds__(kThreads) sums_alone(ColumnSumArgs a) {
    FASTNN_SHARED(PartialSums, partial);
    sum_columns(a, blockIdx.x, partial.of_thread);
}

// Whether a thread can copy 16 bytes at a time: `row` numbers lie between rows of contiguous ones.
template <class T>
bool in_chunks(const T* data, Index one, Index row) {
    return one == 1 && row % kEach<T> == 0 && aligned(data);
}

template <class T, int kSide, bool kAcrossA, bool kAcrossB>
int start(TensorArgs<T>& t, void* stream) {
    t.count = tiles_of(t.g, kSide);
    const unsigned blocks = t.count + blocks_of_sums(t.sums);
    if (blocks == 0) return 0;
    FASTNN_LAUNCH((gemm_tensor<T, kSide, kAcrossA, kAcrossB>), blocks, 2 * kSide, stream, t);
    return launched();
}

template <class T, int kSide>
int start(TensorArgs<T>& t, bool across_a, bool across_b, void* stream) {
    if (across_a)
        return across_b ? start<T, kSide, true, true>(t, stream) : start<T, kSide, true, false>(t, stream);
    return across_b ? start<T, kSide, false, true>(t, stream) : start<T, kSide, false, false>(t, stream);
}

// A large product that nothing follows but a bias; the sums beside it are a launch of their own then.
template <class T>
int by_library(const TensorArgs<T>& t, void* stream, bool& taken) {
    const bool narrow = t.g.c == nullptr;
    if (t.slope.from != nullptr || (t.c != nullptr && !narrow)) return 0;
    const LibraryProduct product{.g = t.g,
                                 .a = t.a.data,
                                 .b = t.b.data,
                                 .c = narrow ? static_cast<void*>(t.c) : t.g.c,
                                 .bf16 = sizeof(T) == 2,
                                 .narrow = narrow};
    const int status = library_product(product, stream, taken);
    if (status != 0 || !taken || t.sums.out == nullptr) return status;
    FASTNN_LAUNCH(sums_alone, blocks_of_sums(t.sums), kThreads, stream, t.sums);
    return launched();
}

template <class T, class Product>
int run(const With<Product>& with, const T* a, const T* b, BFloat16* c, void* stream) {
    const GemmArgs& g = with.product.g;
    int device = 0, major = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (major < 8) return kNoTensorCores;
    const bool across_a = g.a_row == 1 && g.a_col != 1, across_b = g.b_col == 1 && g.b_row != 1;
    TensorArgs<T> t{.g = g,
                    .a = {a, g.a_row, g.a_col, g.m, false},
                    .b = {b, g.b_col, g.b_row, g.n, false},
                    .c = c,
                    .slope = with.slope,
                    .sums = with.sums,
                    .statistics = with.statistics,
                    .count = 0};
    t.a.chunks = across_a ? in_chunks(a, g.a_row, g.a_col) : in_chunks(a, g.a_col, g.a_row);
    t.b.chunks = across_b ? in_chunks(b, g.b_col, g.b_row) : in_chunks(b, g.b_row, g.b_col);
    if (!t.a.chunks || !t.b.chunks || tiles_of(g, kLarge) < kEnoughTiles)
        return start<T, kSmall>(t, across_a, across_b, stream);
    bool taken = false;
    int status = by_library(t, stream, taken);
    if (status == 0 && !taken) status = start<T, kLarge>(t, across_a, across_b, stream);
    if (status != 0) return status;
    const Statistics& statistics = with.statistics;  // no register is left for them in the large one
    if (statistics.norm.x != nullptr) return cuda_moments(statistics.norm, stream);
    if (statistics.backward.dy != nullptr) return cuda_gradient_sums(statistics.backward, stream);
    return 0;
}

}  // namespace

int cuda_gemm_bf16(const GemmBf16Args& args, void* stream) {
    return cuda_gemm_bf16_with({args, {}, {}, {}}, stream);
}
int cuda_gemm_bf16_with(const With<GemmBf16Args>& with, void* stream) {
    return run(with, with.product.a, with.product.b, with.product.c, stream);
}

int cuda_gemm_tf32(const GemmTf32Args& args, void* stream) {
    return cuda_gemm_tf32_with({args, {}, {}, {}}, stream);
}
int cuda_gemm_tf32_with(const With<GemmTf32Args>& with, void* stream) {
    return run<float>(with, with.product.g.a, with.product.g.b, nullptr, stream);
}

}  // namespace fastnn
