// The instructions of tensor cores and of copies into shared memory behind the back of a warp, as PTX has
// them (sm_80 and newer). tests/cuda_shim has twins of them for the CPU. All lanes of a warp call them
// together, but for copies.
#pragma once

#include "cuda/launch.h"

#if !defined(__CUDACC__)
#include "tensor_core_of_shim.h"
#else

namespace fastnn {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define FASTNN_PTX(...) __trap()  // gemm_tensor.cu starts no such kernel there
#else
#define FASTNN_PTX(...) asm volatile(__VA_ARGS__)
#endif

// Of memory in the block's shared window.
FASTNN_RULE unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// 16 bytes of `to`, of which the first `bytes` come from `from` (anywhere, where that is none) and the others
// become zero. It has happened for this thread when wait_copies says so, for others behind the barrier after
// that.
FASTNN_RULE void copy_chunk(void* to, const void* from, int bytes) {
    FASTNN_PTX("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
               "l"(__cvta_generic_to_global(from)), "r"(bytes) : "memory");
}
// The copies since the last call are one group.
FASTNN_RULE void end_copies() { FASTNN_PTX("cp.async.commit_group;" :: : "memory"); }
// All groups but the newest `kBut` are there.
template <int kBut>
FASTNN_RULE void wait_copies() {
    FASTNN_PTX("cp.async.wait_group %0;" ::"n"(kBut) : "memory");
}

// Four 8x8 matrices of 16-bit numbers. Lanes 8j to 8j + 7 give the rows of matrix j, 16 bytes each; r[j] are
// numbers 2 (lane % 4) and the next of row lane / 4.
FASTNN_RULE void load_matrices(const void* row, unsigned (&r)[4]) {
    FASTNN_PTX("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]),
               "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
// The same of the matrices' transposes.
FASTNN_RULE void load_transposed(const void* row, unsigned (&r)[4]) {
    FASTNN_PTX("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]),
               "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

// d (16x8) += a (16x16) b (16x8) of bfloat16. With group = lane / 4 and pair = 2 (lane % 4) a lane has
//   a: rows group, group + 8, group, group + 8, columns pair and pair + 1, in the last two 8 further;
//   b: rows pair and pair + 1, then 8 further, column group;
//   d: rows group, group, group + 8, group + 8, columns pair, pair + 1, pair, pair + 1.
FASTNN_RULE void multiply_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    FASTNN_PTX(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};" : "+f"(d[0]),
        "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// d (16x8) += a (16x8) b (8x8) of TF32, d as above: a: rows group, group + 8, group, group + 8, column lane %
// 4, in the last two 4 further; b: row lane % 4, then 4 further, column group.
FASTNN_RULE void multiply_tf32(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    FASTNN_PTX(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};" : "+f"(d[0]),
        "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// To nearest, away from zero in the middle.
FASTNN_RULE unsigned rounded_to_tf32(unsigned bits) {
    unsigned y = 0;
    FASTNN_PTX("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(__uint_as_float(bits)));
    return y;
}

#undef FASTNN_PTX

}  // namespace fastnn

#endif
