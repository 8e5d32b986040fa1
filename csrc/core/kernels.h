// The kernel contract. An entry runs one chunk of an operation; `chunks` is a pure function of the shape, so
// the bits do not depend on who runs which chunk. Entries start no threads and allocate nothing. An operation
// of several phases is an array: every chunk of a phase ends before the next phase starts, and a phase that a
// shape does not need has zero chunks.
#pragma once

#include "core/types.h"

namespace fastnn {

template <class Args>
struct Kernel {
    int (*chunks)(const Args&);
    void (*run)(const Args&, int chunk, Scratch&);
};

// Yardsticks of the machine (bench/): each thread runs one chunk.
struct LimitArgs {
    float* data;  // `floats` elements for each chunk
    Index floats;
    Index repeats;
    int threads;
    int kind;        // 0 fma, 1 read, 2 copy, 3 update, 4 products of bfloat16
    double* result;  // one value a chunk: flops or bytes done
};
static_assert(are_indices(&LimitArgs::floats, &LimitArgs::repeats));

struct Kernels {
    const char* isa;
    const char* (*macros)();  // what the compiler predefined in this table's own objects, space-separated
    Kernel<GemmArgs> gemm;
    Kernel<PackArgs> pack_b;
    Kernel<GemmBf16Args> gemm_bf16;
    Kernel<RoundArgs> round_bf16;
    // gemm_bf16 has instructions of its own; without them gemm of the same numbers in float32 is faster.
    bool multiplies_bf16;
    Kernel<GatherArgs> gather;
    Kernel<ColumnSumArgs> column_sum[2];
    Kernel<ColumnMomentsArgs> column_moments[2];
    Kernel<ScaleColumnsArgs> scale_columns;
    Kernel<ActivationArgs> activation;
    Kernel<ActivationBackwardArgs> activation_backward;
    Kernel<AddArgs> add;
    Kernel<DropoutArgs> dropout;
    Kernel<BatchNormArgs> batch_norm[3];
    Kernel<BatchNormBackwardArgs> batch_norm_backward[3];
    Kernel<SoftmaxArgs> softmax_cross_entropy;
    Kernel<PointLossArgs> point_loss;
    Kernel<UpdateArgs> update[4];
    Kernel<LimitArgs> limit;
};

// The product of what `round_bf16` wrote: g.a and g.b are such memory, where c is float32. `tasks` may be
// those of a device.
template <class Tasks>
void add_product_of_rounded(Tasks& tasks, const Kernels& kernels, GemmBf16Args& args) {
    if (!tasks.multiplies_bf16(kernels)) {
        tasks.add(kernels.gemm, args.g);
        return;
    }
    args.a = reinterpret_cast<const BFloat16*>(args.g.a);
    args.b = reinterpret_cast<const BFloat16*>(args.g.b);
    tasks.add(kernels.gemm_bf16, args);
}

// Streaming kernels cut every array into pieces of this many elements; an array past 2^33 elements gets
// longer pieces instead of more than the team can count.
[[gnu::always_inline]] constexpr Index stream_chunk(Index n) {
    const Index least = (n / 500'000 + 63) / 64 * 64;
    return least > 16384 ? least : 16384;
}
[[gnu::always_inline]] constexpr Index stream_chunks(Index n) {
    return (n + stream_chunk(n) - 1) / stream_chunk(n);
}

// Of updates, where small arrays go to several threads too: their piece is what another core wrote, and one
// thread takes longer to fetch it than to compute. kSummed (core/norms.h) divides it.
[[gnu::always_inline]] constexpr Index update_chunk(Index n) {
    const Index eighth = (n / 8 + 4095) / 4096 * 4096;
    return eighth >= 16384 ? stream_chunk(n) : eighth > 4096 ? eighth : 4096;
}
[[gnu::always_inline]] constexpr Index update_chunks(Index n) {
    return (n + update_chunk(n) - 1) / update_chunk(n);
}

// Floats of workspace that one column reduction over (rows, cols) needs: it may begin them anywhere in a
// line.
constexpr Index column_partials(Index rows, Index cols) {
    return ((rows + kStatRows - 1) / kStatRows) * ((cols + 15) / 16 * 16) + 16;
}

}  // namespace fastnn
