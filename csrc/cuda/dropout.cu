// y = x * scale where the element's bits reach the threshold, else +0: the mask of the CPU (core/dropout.h).
#include "core/dropout.h"
#include "cuda/entries.h"
#include "cuda/launch.h"

namespace fastnn {
namespace {

static_assert(kDropoutBlock % (4 * kThreads) == 0);  // so a block of threads has one key

__global__ void __launch_bounds__(kThreads) dropout(DropoutArgs a, bool packs) {
    const Index first = four_of_thread();
    const Index block = first / kDropoutBlock;
    const DropoutKey key = dropout_key(a.seed, a.step, static_cast<std::uint64_t>(block));
    map_four(
        packs, first, a.n, a.y,
        [&](Index i, float x) {
            const auto place = static_cast<std::uint32_t>(i - block * kDropoutBlock);
            const std::uint32_t bits = dropout_bits(key.start + place * kDropoutStride, key.middle);
            const bool kept = !a.drops_all && static_cast<std::int32_t>(bits) >= a.threshold;
            return kept ? x * a.scale : 0.0f;
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
