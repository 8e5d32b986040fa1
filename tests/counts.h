// What tests/counts.cpp is made of: arrays that do not depend on the machine, and a call that is counted.
#pragma once

#include <valgrind/callgrind.h>

#include <cstdint>
#include <cstdlib>

#include "core/kernels.h"

namespace fastnn {

namespace avx2 {
extern const Kernels kTable;
}
inline const Kernels& kernels = avx2::kTable;

// Numbers of [low, low + 2) where np.empty puts a large array: 16 bytes behind the border of a cache line.
class Floats {
 public:
    explicit Floats(Index n, float low = -1.0F) {
        const std::size_t bytes = (static_cast<std::size_t>(n) * sizeof(float) + 16 + 63) / 64 * 64;
        block_ = static_cast<float*>(std::aligned_alloc(64, bytes));
        std::uint32_t state = 1;
        for (Index i = 0; i < n; ++i) {
            state = state * 1664525U + 1013904223U;
            data()[i] = static_cast<float>(state >> 11) / 1048576.0F + low;
        }
    }
    ~Floats() { std::free(block_); }
    Floats(const Floats&) = delete;
    Floats& operator=(const Floats&) = delete;
    float* data() const { return block_ + 4; }

 private:
    float* block_;
};

inline Scratch scratch() {
    static unsigned char* const memory =
        static_cast<unsigned char*>(std::aligned_alloc(4096, static_cast<std::size_t>(kScratchBytes)));
    return {memory};
}

template <class Args>
void run(const Kernel<Args>& kernel, const Args& args) {
    Scratch memory = scratch();
    const int chunks = kernel.chunks(args);
    for (int chunk = 0; chunk < chunks; ++chunk) kernel.run(args, chunk, memory);
}

template <class Args, std::size_t phases>
void run(const Kernel<Args> (&phase)[phases], const Args& args) {
    for (const Kernel<Args>& kernel : phase) run(kernel, args);
}

template <class Kernel, class Args>
void count(const char* name, const Kernel& kernel, const Args& args) {
    CALLGRIND_ZERO_STATS;
    run(kernel, args);
    CALLGRIND_DUMP_STATS_AT(name);
}

}  // namespace fastnn
