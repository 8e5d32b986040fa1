// y = x * scale where the element's bits reach the threshold, else +0: the mask of the CPU (core/dropout.h).
#include "core/dropout.h"
#include "cuda/entries.h"
#include "cuda/launch.h"

namespace fastnn {
namespace {

__global__ void __launch_bounds__(kThreads) dropout(DropoutArgs a, bool packs) {
    const Index first = four_of_thread();
    Index block = (a.first + first) / kDropoutBlock;
    DropoutKey key = dropout_key(a.seed, *a.step, static_cast<std::uint64_t>(block));
    map_four(
        packs, first, a.n, a.y,
        [&](Index i, float x) {
            Index place = a.first + i - block * kDropoutBlock;
            if (place == kDropoutBlock) {  // the next block begins among the four
                place = 0;
                key = dropout_key(a.seed, *a.step, static_cast<std::uint64_t>(++block));
            }
            const std::uint32_t counter = key.start + static_cast<std::uint32_t>(place) * kDropoutStride;
            const auto bits = static_cast<std::int32_t>(dropout_bits(counter, key.middle));
            return !a.drops_all && bits >= a.threshold ? x * a.scale : 0.0f;
        },
        a.x);
}

}  // namespace

int cuda_dropout(const DropoutArgs& a, void* stream) {
    if (a.n == 0) return 0;
    FASTNN_LAUNCH(dropout, blocks_for(a.n, 4 * kThreads), kThreads, stream, a, aligned(a.x, a.y));
    return launched();
}

}  // namespace fastnn
