// The twins of csrc/cuda/tensor_core.h, written from the description of PTX: what a lane gives and gets
// stands there. A copy happens when its thread waits for it, so that a missing wait shows.
#pragma once

#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <vector>

#include "cuda_runtime.h"

namespace fastnn {

namespace shim_copies {
struct Copy {
    void* to;
    const void* from;
    int bytes;
};
// By thread of each block that runs: groups of copies, the last one still open.
inline std::deque<std::vector<Copy>> groups[shim::kAtOnce][1024];
}  // namespace shim_copies

// The hardware stops at an address that is no multiple of 16.
inline void must_be_aligned(const void* p) {
    if (reinterpret_cast<std::uintptr_t>(p) % 16 == 0) return;
    std::fputs("shim: 16 bytes at an address that is no multiple of 16\n", stderr);
    std::abort();
}

inline void copy_chunk(void* to, const void* from, int bytes) {
    auto& mine = shim_copies::groups[shim::slot][threadIdx.x];
    if (mine.empty()) mine.emplace_back();
    must_be_aligned(to);
    if (bytes > 0) must_be_aligned(from);
    mine.back().push_back({to, from, bytes});
}
inline void end_copies() {
    auto& mine = shim_copies::groups[shim::slot][threadIdx.x];
    if (mine.empty()) mine.emplace_back();
    mine.emplace_back();
}
template <int kBut>
void wait_copies() {
    auto& mine = shim_copies::groups[shim::slot][threadIdx.x];
    while (mine.size() > kBut + 1) {
        for (const auto& copy : mine.front()) {
            std::memset(copy.to, 0, 16);
            if (copy.bytes > 0) std::memcpy(copy.to, copy.from, static_cast<std::size_t>(copy.bytes));
        }
        mine.pop_front();
    }
}

namespace shim_lanes {
// f(lane, value) for what each lane of the warp has.
template <class T, class F>
void each(const T& own, const shim::Where& where, F f) {
    shim::exchange(0xffffffffu, &own, sizeof(T), where, [&](auto of_lane) {
        for (unsigned lane = 0; lane < 32; ++lane) f(lane, of_lane(lane)->template as<T>());
    });
}
inline void load(const void* row, unsigned (&r)[4], bool transposed, const shim::Where& where) {
    must_be_aligned(row);
    const unsigned me = threadIdx.x % 32;
    each(row, where, [&](unsigned lane, const void* p) {
        const auto* numbers = static_cast<const std::uint16_t*>(p);
        if (!transposed) {
            if (lane % 8 == me / 4) std::memcpy(&r[lane / 8], numbers + me % 4 * 2, 4);
        } else if (lane % 8 / 2 == me % 4) {
            auto* const halves = reinterpret_cast<std::uint16_t*>(&r[lane / 8]);
            std::memcpy(halves + lane % 2, numbers + me / 4, 2);
        }
    });
}
struct Quad {
    unsigned v[4];
};
struct Pair {
    unsigned v[2];
};
inline float number(unsigned bits) { return std::bit_cast<float>(bits); }
// The terms of one product, in float64; `upper(bits, i)`: number i that the register holds.
template <int kEach, class F>
void multiply(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, F number_of,
              const shim::Where& where) {
    constexpr int kDepth = 8 * kEach;
    float whole_a[16][kDepth], whole_b[kDepth][8];
    each(Quad{{a[0], a[1], a[2], a[3]}}, where, [&](unsigned lane, const Quad& q) {
        for (unsigned j = 0; j < 4; ++j)
            for (int i = 0; i < kEach; ++i)
                whole_a[lane / 4 + j % 2 * 8][static_cast<int>(lane % 4 + j / 2 * 4) * kEach + i] =
                    number_of(q.v[j], i);
    });
    each(Pair{{b0, b1}}, where, [&](unsigned lane, const Pair& p) {
        for (unsigned j = 0; j < 2; ++j)
            for (int i = 0; i < kEach; ++i)
                whole_b[static_cast<int>(lane % 4 + j * 4) * kEach + i][lane / 4] = number_of(p.v[j], i);
    });
    const unsigned me = threadIdx.x % 32;
    for (unsigned i = 0; i < 4; ++i) {
        double sum = d[i];
        for (int k = 0; k < kDepth; ++k)
            sum += double{whole_a[me / 4 + i / 2 * 8][k]} * double{whole_b[k][me % 4 * 2 + i % 2]};
        d[i] = static_cast<float>(sum);
    }
}
}  // namespace shim_lanes

inline void load_matrices(const void* row, unsigned (&r)[4],
                          const shim::Where& where = shim::Where::current()) {
    shim_lanes::load(row, r, false, where);
}
inline void load_transposed(const void* row, unsigned (&r)[4],
                            const shim::Where& where = shim::Where::current()) {
    shim_lanes::load(row, r, true, where);
}
inline void multiply_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1,
                          const shim::Where& where = shim::Where::current()) {
    shim_lanes::multiply<2>(
        d, a, b0, b1,
        [](unsigned bits, int i) { return shim_lanes::number(i == 0 ? bits << 16 : bits >> 16 << 16); },
        where);
}
inline void multiply_tf32(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1,
                          const shim::Where& where = shim::Where::current()) {
    // What was not rounded is cut, as the hardware cuts it.
    shim_lanes::multiply<1>(
        d, a, b0, b1, [](unsigned bits, int) { return shim_lanes::number(bits & 0xffffe000u); }, where);
}
inline unsigned rounded_to_tf32(unsigned bits) {
    const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
    return finite ? (bits + 0x1000u) & 0xffffe000u : bits;
}

}  // namespace fastnn
