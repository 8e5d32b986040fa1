// Whether root_by_products of csrc/cpu/simd_avx512.h is sqrt: for every float, beside its neighbours and
// beside floats of all sizes, so that the lanes of a register go the same way and different ones.
#include <cstdint>
#include <cstdio>

#include "cpu/simd.h"

using namespace fastnn::avx512;

static std::uint64_t wrong(std::uint32_t first, std::uint32_t apart) {
    const __m512i lanes = (count_from(0) * iset1(apart)).v;
    const Reg x = {_mm512_castsi512_ps(_mm512_add_epi32(iset1(first).v, lanes))};
    const __m512i found = _mm512_castps_si512(root_by_products(x).v);
    const __m512i wanted = _mm512_castps_si512(sqrt(x).v);
    return static_cast<std::uint64_t>(__builtin_popcount(_mm512_cmpneq_epi32_mask(found, wanted)));
}

int main() {
    if (!__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq")) return 77;
    const unsigned as_the_kernels = _mm_getcsr() | 0x8040;  // denormals are zero
    for (const unsigned mode : {_mm_getcsr(), as_the_kernels}) {
        _mm_setcsr(mode);
        constexpr std::uint64_t kAll = std::uint64_t{1} << 32;
        std::uint64_t off = 0;
        for (std::uint64_t i = 0; i < kAll; i += 16) off += wrong(static_cast<std::uint32_t>(i), 1);
        for (std::uint64_t i = 0; i < kAll / 16; ++i)
            off += wrong(static_cast<std::uint32_t>(i), std::uint32_t{1} << 28);
        std::printf("%llu of all floats, twice\n", static_cast<unsigned long long>(off));
        if (off != 0) return 1;
    }
}
