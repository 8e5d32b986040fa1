// What the compiler was told while compiling this ISA's objects: the proof that dispatch reached them.
#if defined(FASTNN_ISA_AVX512BF16)
#define FASTNN_NS avx512bf16
#elif defined(FASTNN_ISA_AVX512)
#define FASTNN_NS avx512
#elif defined(FASTNN_ISA_AVX2)
#define FASTNN_NS avx2
#else
#define FASTNN_NS scalar
#endif

namespace fastnn::FASTNN_NS {

const char* macros();
const char* macros() {
    return ""
#if defined(__SSE2__)
           "__SSE2__ "
#endif
#if defined(__AVX__)
           "__AVX__ "
#endif
#if defined(__FMA__)
           "__FMA__ "
#endif
#if defined(__AVX2__)
           "__AVX2__ "
#endif
#if defined(__AVX512F__)
           "__AVX512F__ "
#endif
#if defined(__AVX512BW__)
           "__AVX512BW__ "
#endif
#if defined(__AVX512DQ__)
           "__AVX512DQ__ "
#endif
#if defined(__AVX512VL__)
           "__AVX512VL__ "
#endif
#if defined(__AVX512BF16__)
           "__AVX512BF16__ "
#endif
        ;
}

}  // namespace fastnn::FASTNN_NS
