// Kernels flush denormals (in and out) inside their own calls: repeated small gradients would otherwise slow
// a step tens of times. The caller's setting is restored at the end of the call.
#pragma once

#include <cstdint>

namespace fastnn {

class FlushDenormals {
 public:
    FlushDenormals() : saved_(read()) { write(saved_ | kFlush); }
    ~FlushDenormals() { write(saved_); }
    void suspend() const { write(saved_); }
    void resume() const { write(saved_ | kFlush); }
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
#if defined(__x86_64__)
    using Word = std::uint32_t;
    static constexpr Word kFlush = 0x8040;  // FTZ | DAZ
    static Word read() {
        Word w;
        __asm__ volatile("stmxcsr %0" : "=m"(w));
        return w;
    }
    static void write(Word w) { __asm__ volatile("ldmxcsr %0" ::"m"(w)); }
#else
    using Word = std::uint64_t;
    static constexpr Word kFlush = Word{1} << 24;  // FPCR.FZ
    static Word read() {
        Word w;
        __asm__ volatile("mrs %0, fpcr" : "=r"(w));
        return w;
    }
    static void write(Word w) { __asm__ volatile("msr fpcr, %0" ::"r"(w)); }
#endif
    Word saved_;
};

}  // namespace fastnn
