// y = x * scale where the element's bits reach the threshold, else +0 (whatever x holds: NaN too). The mask
// is drawn from (seed, step, element) in forward and again in backward and is never stored: nine integer
// operations a register. Out of cache that runs at 94 % of a copy's speed (AVX2, two threads).
#include "core/dropout.h"

#include "cpu/entries.h"
#include "cpu/index.h"
#include "cpu/stream.h"

namespace fastnn::FASTNN_NS {
namespace {

FASTNN_INLINE void dropout_block(const DropoutArgs& a, Index block, Index begin, Index end) {
    const DropoutKey key = dropout_key(a.seed, *a.step, static_cast<std::uint64_t>(block));
    const IntVec threshold = isplat(static_cast<std::uint32_t>(a.threshold));
    const Vec scale = splat(a.scale);
    const auto place = static_cast<std::uint32_t>(a.first + begin - block * kDropoutBlock);
    IntVec counter = lane_numbers() * kDropoutStride + (key.start + place * kDropoutStride);
    stream_range(a.y, begin, end, [&](Index i, int lanes) FASTNN_BODY {
        const IntVec bits = dropout_bits(counter, key.middle);
        vstore(a.y + i, keep_at_least(threshold, bits, vload(a.x + i, lanes) * scale), lanes);
        counter = counter + kDropoutStride * static_cast<std::uint32_t>(lanes);
    });
}

}  // namespace

int dropout_chunks(const DropoutArgs& a) { return static_cast<int>(stream_chunks(a.n)); }

FASTNN_FLAT void dropout(const DropoutArgs& a, int chunk, Scratch&) {
    const Index size = stream_chunk(a.n);
    Index begin = chunk * size;
    const Index end = least(begin + size, a.n);
    if (a.drops_all) {
        stream_range(a.y, begin, end,
                     [&](Index i, int lanes) FASTNN_BODY { vstore(a.y + i, splat(0.0f), lanes); });
        return;
    }
    while (begin < end) {  // once, where chunks are blocks
        const Index block = (a.first + begin) / kDropoutBlock;
        const Index stop = least((block + 1) * kDropoutBlock - a.first, end);
        dropout_block(a, block, begin, stop);
        begin = stop;
    }
}

}  // namespace fastnn::FASTNN_NS
