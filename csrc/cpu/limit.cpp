// The machine's own limits, measured with the instructions of this ISA: what a kernel's speed is a share of.
#include "cpu/entries.h"
#include "cpu/index.h"
#include "cpu/vec.h"

namespace fastnn::FASTNN_NS {
namespace {

// Independent FMA chains as inline assembly: a compiler turns a loop of intrinsics into less than the peak.
#if ((defined(FASTNN_ISA_AVX512) || defined(FASTNN_ISA_AVX512BF16)) && defined(__AVX512F__)) || \
    defined(FASTNN_ISA_AVX2)
#if !defined(FASTNN_ISA_AVX2)
constexpr int kChains = 20;
#define FASTNN_VECTOR_CONSTRAINT "v"
#else
constexpr int kChains = 12;
#define FASTNN_VECTOR_CONSTRAINT "x"
#endif
double fma_flops(Index repeats) {
    Reg chain[kChains];
    unroll<kChains>([&](auto i) FASTNN_BODY { chain[i] = set1(1.0f); });
    const Reg factor = set1(0.999f);
    const Reg term = set1(0.001f);
    for (Index r = 0; r < repeats; ++r)
        unroll<kChains>([&](auto i) FASTNN_BODY {
            // By names of their own: clang does not capture what only assembly reads.
            Reg& link = chain[i];
            const Reg by = factor, plus = term;
            __asm__ volatile("vfmadd213ps %2, %1, %0"
                             : "+" FASTNN_VECTOR_CONSTRAINT(link.v)
                             : FASTNN_VECTOR_CONSTRAINT(by.v), FASTNN_VECTOR_CONSTRAINT(plus.v));
        });
    return 2.0 * kChains * Reg::kWidth * static_cast<double>(repeats);
}
#else
constexpr int kChains = 12;
double fma_flops(Index repeats) {
    float chain[kChains];
    unroll<kChains>([&](auto i) FASTNN_BODY { chain[i] = 1.0f; });
    float factor = 0.999f;
    float term = 0.001f;
    __asm__ volatile("" : "+m"(factor), "+m"(term));  // or the compiler works the loop out
    for (Index r = 0; r < repeats; ++r)
        unroll<kChains>([&](auto i) FASTNN_BODY { chain[i] = __builtin_fmaf(chain[i], factor, term); });
    __asm__ volatile("" ::"m"(chain));
    return 2.0 * kChains * static_cast<double>(repeats);
}
#endif

// The same of products of bfloat16; those of float32 where the ISA has no others.
double bf16_flops(Index repeats) {
#if defined(__AVX512BF16__)
    Reg chain[kChains];
    unroll<kChains>([&](auto i) FASTNN_BODY { chain[i] = set1(1.0f); });
    const Reg factor = set1(0.0f);
    for (Index r = 0; r < repeats; ++r)
        unroll<kChains>([&](auto i) FASTNN_BODY {
            Reg& link = chain[i];
            const Reg by = factor;
            __asm__ volatile("vdpbf16ps %1, %1, %0" : "+v"(link.v) : "v"(by.v));
        });
    return 4.0 * kChains * Reg::kWidth * static_cast<double>(repeats);
#else
    return fma_flops(repeats);
#endif
}

// f(begin, end) for pieces of n elements, every other time from the last one on: as calls do on arrays that
// the near caches do not hold (core/team.h), or kernels would be faster than what they are measured by.
template <class F>
FASTNN_INLINE void each_piece(Index n, Index repeats, F f) {
    constexpr Index kPiece = 16384;
    const Index pieces = ceil_div(n, kPiece);
    for (Index r = 0; r < repeats; ++r) {
        for (Index i = 0; i < pieces; ++i) {
            const Index begin = (r % 2 == 0 ? i : pieces - 1 - i) * kPiece;
            f(begin, least(begin + kPiece, n));
        }
        __asm__ volatile("" ::: "memory");
    }
}

double read_bytes(const float* p, Index n, Index repeats) {
    each_piece(n, repeats, [&](Index begin, Index end) FASTNN_BODY {
        Vec s[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
        for (Index i = begin; i + 4 * kLanes <= end; i += 4 * kLanes)
            unroll<4>([&](auto u) FASTNN_BODY { s[u] = s[u] + vload(p + i + u * kLanes); });
        float t[kLanes];
        vstore(t, (s[0] + s[1]) + (s[2] + s[3]));
        __asm__ volatile("" ::"m"(t) : "memory");
    });
    return static_cast<double>(sizeof(float)) * static_cast<double>(n) * static_cast<double>(repeats);
}

// The first half of the array to the second: n / 2 elements read, n / 2 written.
double copy_bytes(float* p, Index n, Index repeats) {
    const Index half = n / 2 / kLanes * kLanes;
    each_piece(half, repeats, [&](Index begin, Index end) FASTNN_BODY {
        for (Index i = begin; i < end; i += kLanes) vstore(p + half + i, vload(p + i));
    });
    return 2.0 * static_cast<double>(sizeof(float)) * static_cast<double>(half) *
           static_cast<double>(repeats);
}

double update_bytes(float* p, Index n, Index repeats) {
    const Vec factor = splat(0.999f);
    const Vec term = splat(0.001f);
    const Index whole = n / kLanes * kLanes;
    each_piece(whole, repeats, [&](Index begin, Index end) FASTNN_BODY {
        for (Index i = begin; i < end; i += kLanes) vstore(p + i, fma(vload(p + i), factor, term));
    });
    return 2.0 * static_cast<double>(sizeof(float)) * static_cast<double>(whole) *
           static_cast<double>(repeats);
}

}  // namespace

int limit_chunks(const LimitArgs& a) { return a.threads; }

void limit(const LimitArgs& a, int chunk, Scratch&) {
    float* const p = a.data + chunk * a.floats;
    switch (a.kind) {
        case 0:
            a.result[chunk] = fma_flops(a.repeats);
            return;
        case 1:
            a.result[chunk] = read_bytes(p, a.floats, a.repeats);
            return;
        case 2:
            a.result[chunk] = copy_bytes(p, a.floats, a.repeats);
            return;
        case 4:
            a.result[chunk] = bf16_flops(a.repeats);
            return;
        default:
            a.result[chunk] = update_bytes(p, a.floats, a.repeats);
            return;
    }
}

}  // namespace fastnn::FASTNN_NS
