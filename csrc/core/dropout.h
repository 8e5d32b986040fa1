// Which elements dropout drops: a pure function of (seed, step, element), the same for a lane of a CPU vector
// and a CUDA thread, so that backward draws the mask again instead of keeping it.
#pragma once

#include <cmath>

#include "core/rules.h"
#include "core/types.h"

namespace fastnn {

// So many elements in a row share one key.
inline constexpr Index kDropoutBlock = 16384;

// The mask of probability p, all but the arrays and the step.
FASTNN_RULE DropoutArgs dropout_mask(double p, std::uint64_t seed) {
    const auto dropped = static_cast<std::int64_t>(std::llround(std::ldexp(p, 32)));  // of 2^32 values
    DropoutArgs mask{};
    mask.seed = seed;
    mask.threshold = static_cast<std::int32_t>(dropped - (std::int64_t{1} << 31));
    mask.drops_all = dropped == std::int64_t{1} << 32;
    mask.scale = static_cast<float>(1.0 / (1.0 - p));
    return mask;
}

struct DropoutKey {
    std::uint32_t start, middle;
};

// The finalizer of SplitMix64 (Steele, Lea, Flood 2014; the constants are Stafford's variant 13).
FASTNN_RULE std::uint64_t mix64(std::uint64_t z) {
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

FASTNN_RULE DropoutKey dropout_key(std::uint64_t seed, std::uint64_t step, std::uint64_t block) {
    const std::uint64_t bits = mix64(mix64(mix64(seed) ^ step) ^ block);
    return {static_cast<std::uint32_t>(bits), static_cast<std::uint32_t>(bits >> 32)};
}

// Counters of neighbours differ by 2^32 / the golden ratio, so that all their bits differ: with a difference
// of 1 the kept elements at some distances were correlated by 6e-4.
inline constexpr std::uint32_t kDropoutStride = 0x9e3779b9u;

// 32 random bits of an element; counter = key.start + kDropoutStride * (its place in the block), modulo 2^32.
// U is a vector of integers or std::uint32_t. Two rounds of shift and multiply (the constants of Wellons'
// lowbias32), half of the key between them: keys that differed in their start alone would give one sequence
// from two places. Every operation can be undone, so over all 2^32 starts an element meets every value
// exactly once: its chance to be kept is exact. lowbias32's last shift is left out: it would change the low
// half alone, which decides once in 2^16.
template <class U>
FASTNN_RULE U dropout_bits(U counter, std::uint32_t middle) {
    U x = counter ^ (counter >> 16);
    x = x * 0x7feb352du;
    x = x ^ (x >> 15) ^ middle;
    return x * 0x846ca68bu;
}

}  // namespace fastnn
