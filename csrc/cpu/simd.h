// Picks the register type of the ISA that this object is compiled for. A kernel never asks which one it is:
// what differs is in simd_<isa>.h (operations) and tile.h (sizes).
//
// Everything here is static and forced inline: a function emitted with AVX code under a name that another
// object also emits could be chosen by the linker and crash an old CPU (tests check for weak symbols).
#pragma once

#include <utility>

#include "core/types.h"

#define FASTNN_INLINE static inline __attribute__((always_inline))

// For lambdas and the functions that take them: one left as a call keeps its registers in memory and its lane
// count variable (batch-norm backward: 58 cycles a vector against 12). gcc's flatten alone gives up on long
// bodies.
#define FASTNN_BODY __attribute__((always_inline))
#define FASTNN_FLAT __attribute__((flatten))

#if defined(FASTNN_ISA_AVX512BF16)
#define FASTNN_NS avx512bf16
#define FASTNN_FLOAT_NS avx512  // whose float32 kernels this ISA has
#elif defined(FASTNN_ISA_AVX512)
#define FASTNN_NS avx512
#elif defined(FASTNN_ISA_AVX2)
#define FASTNN_NS avx2
#else
#define FASTNN_NS scalar
#endif
#if !defined(FASTNN_FLOAT_NS)
#define FASTNN_FLOAT_NS FASTNN_NS
#endif

namespace fastnn::FASTNN_NS {

template <class F, int... I>
FASTNN_INLINE void unroll_over(F&& f, std::integer_sequence<int, I...>) {
    (f(std::integral_constant<int, I>{}), ...);
}

// f(0), f(1), ..., f(N - 1) with constants: arrays of registers indexed by them stay in registers (a loop
// that the compiler unrolls late leaves them on the stack: 13 % of a tile at K = 64).
template <int N, class F>
FASTNN_INLINE void unroll(F&& f) {
    unroll_over(f, std::make_integer_sequence<int, N>{});
}

}  // namespace fastnn::FASTNN_NS

#if defined(FASTNN_ISA_AVX512BF16)
#include "cpu/simd_avx512bf16.h"
#elif defined(FASTNN_ISA_AVX512)
#include "cpu/simd_avx512.h"
#elif defined(FASTNN_ISA_AVX2)
#include "cpu/simd_avx2.h"
#else
#include "cpu/simd_scalar.h"
#endif

namespace fastnn::FASTNN_NS {

#if !defined(FASTNN_ISA_AVX512BF16)
// A step of a matrix product.
FASTNN_INLINE Reg add_products(Reg a, Reg b, Reg c) { return fma(a, b, c); }

// The same for unrolled loops: c stays in its register. Left to gcc, sums change theirs from step to step,
// and some go through memory.
FASTNN_INLINE Reg add_products_in_place(Reg a, Reg b, Reg c) {
#if defined(FASTNN_ISA_AVX2) || defined(__AVX512F__)  // not where AVX-512 is emulated
    __asm__("vfmadd231ps %2, %1, %0" : "+v"(c.v) : "v"(a.v), "v"(b.v));
    return c;
#else
    return fma(a, b, c);
#endif
}
#endif

}  // namespace fastnn::FASTNN_NS
