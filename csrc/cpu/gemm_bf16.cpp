// The matrix product of bfloat16 arrays, in float32 arithmetic.
//
// The tiles are those of float32: where the ISA has no product of bfloat16 pairs, both operands are widened
// while they are packed, rows of a as rows; where it has one (kTerms is 2), they are packed as pairs. A chunk
// that ends in bfloat16 keeps its sums in scratch memory, a block of rows at a time, until K is done, so the
// result is rounded once.
#include "cpu/bf16.h"
#include "cpu/entries.h"
#include "cpu/gemm_block.h"
#include "cpu/gemm_grid.h"

namespace fastnn::FASTNN_NS {
namespace {

constexpr int W = Reg::kWidth;
constexpr Index kBlockTerms = kBlockK * kTerms;
constexpr Index kGroupRows = kRowsAtOnce;  // of a, packed at a time
constexpr Index kSumFloats = 64 * 1024;    // of a chunk that ends in bfloat16
constexpr double kLongestFlops = 1e8;      // a long sum is not cut into tasks here (bind/run.h)
// One row of sums may be as wide as a chunk.
static_assert((kSlabFloats + kRowsFloats + kSumFloats) * Index{sizeof(float)} <= kScratchBytes &&
              (kSlabFloats + kRowsFloats + kSlabFloats) * Index{sizeof(float)} <= kScratchBytes);

// Lanes of one step: numbers that lie side by side, each with its successor `next` further on where a step
// has two.
FASTNN_INLINE Reg step_across(const BFloat16* p, Index next, Index terms, int lanes) {
    const Reg upper = lanes == W ? widen(p) : widen(p, lanes);
    if constexpr (kTerms == 1) {
        return upper;
    } else {
        if (terms == 1) return floats_of(bits_of(upper) >> 16);
        const Reg second = lanes == W ? widen(p + next) : widen(p + next, lanes);
        return floats_of((bits_of(upper) >> 16) ^ bits_of(second));
    }
}

// Up to W steps of one lane, whose terms lie side by side.
FASTNN_INLINE Reg steps_along(const BFloat16* p, Index terms) {
    if constexpr (kTerms == 1) {
        return terms >= W ? widen(p) : widen(p, static_cast<int>(terms));
    } else {
        BFloat16 pairs[kTerms * W] = {};
        __builtin_memcpy(pairs, p, static_cast<std::size_t>(least(terms, kTerms * W)) * sizeof(BFloat16));
        return load(reinterpret_cast<const float*>(pairs));
    }
}

// dst[step * width + lane] for the `terms` of K, `term` apart in x, and `lanes` rows or columns, `lane`
// apart; zero beyond both. width is a multiple of W.
void pack(const BFloat16* x, Index term, Index lane, Index terms, Index lanes, Index width, float* dst) {
    const Index steps = ceil_div(terms, kTerms);
    if (lane == 1) {
        for (Index s = 0; s < steps; ++s)
            for (Index j = 0; j < width; j += W) {
                const Reg r = j < lanes ? step_across(x + s * kTerms * term + j, term, terms - s * kTerms,
                                                      static_cast<int>(least(W, lanes - j)))
                                        : set1(0.0f);
                store(dst + s * width + j, r);
            }
        return;
    }
    for (Index j = 0; j < width; j += W)
        for (Index s = 0; s < steps; s += W) {
            Reg r[W];
            for (Index i = 0; i < W; ++i) {
                const BFloat16* const from = x + (j + i) * lane + s * kTerms * term;
                const Index left = least(terms - s * kTerms, kTerms * W);
                if (j + i >= lanes) {
                    r[i] = set1(0.0f);
                } else if (term == 1) {
                    r[i] = steps_along(from, left);
                } else {
                    BFloat16 together[kTerms * W];
                    for (Index q = 0; q < left; ++q) together[q] = from[q * term];
                    r[i] = steps_along(together, left);
                }
            }
            transpose(r);
            for (Index i = 0; i < least(W, steps - s); ++i) store(dst + (s + i) * width + j, r[i]);
        }
}

// to[i * kPackedRow + j] = x[i * row + j] for `rows` rows of `terms` numbers.
void widen_rows(const BFloat16* x, Index row, Index terms, Index rows, float* to) {
    for (Index i = 0; i < rows; ++i, x += row, to += kPackedRow) {
        Index j = 0;
        for (; j + W <= terms; j += W) store(to + j, widen(x + j));
        if (j < terms) store(to + j, widen(x + j, static_cast<int>(terms - j)));
    }
}

// Whether pairs of a can be read where they lie, as far as its rows say.
bool in_pairs(const GemmArgs& g) { return kTerms == 2 && g.a_col == 1 && g.a_row % 2 == 0; }
bool in_place(const GemmArgs& g, const BFloat16* a, Index terms) {
    return in_pairs(g) && terms % 2 == 0 && reinterpret_cast<std::uintptr_t>(a) % sizeof(float) == 0;
}

// Where a is packed it is shared. Otherwise b is packed once: 512x2048x2048 0.94, 1024^3 0.98 of the time.
Grid grid_of(const GemmArgs& g) {
    const Bounds bounds =
        g.m >= kSharedRows && !in_pairs(g) ? sharing_bounds(g.m, g.n, kSlabFloats) : Bounds{};
    return cut(g.m, g.n, ceil_div(g.k, kTerms), true, kLongestFlops, bounds);
}

}  // namespace

int gemm_bf16_chunks(const GemmBf16Args& args) {
    if (args.g.m == 0 || args.g.n == 0) return 0;
    const Grid grid = grid_of(args.g);
    return static_cast<int>(grid.row_blocks * grid.col_slabs);
}

void gemm_bf16(const GemmBf16Args& args, int chunk, Scratch& scratch) {
    const GemmArgs& g = args.g;
    const Grid grid = grid_of(g);
    const Index r0 = chunk % grid.row_blocks * grid.rows;
    const Index c0 = chunk / grid.row_blocks * grid.cols;
    const Index r1 = least(r0 + grid.rows, g.m);
    const Index cols = least(grid.cols, g.n - c0);
    float* const packed = reinterpret_cast<float*>(scratch.data);
    float* const group = packed + kSlabFloats;
    float* const sums = group + kRowsFloats;
    const Index sums_row = round_up(cols, W);
    const Index high = args.c == nullptr ? r1 - r0 : most(1, kSumFloats / sums_row);

    Tile t = tile_of(g);
    if (args.c != nullptr) t.c_row = sums_row;
    for (Index top = r0; top < r1; top += high) {
        const Index end = least(top + high, r1);
        float* const c = args.c == nullptr ? g.c + top * g.c_row + c0 : sums;
        const auto each_register = [&](auto f) FASTNN_BODY {
            for (Index row = top; row < end; ++row)
                for (Index j = 0; j < cols; j += W)
                    f(args.c + row * g.c_row + c0 + j, sums + (row - top) * sums_row + j,
                      static_cast<int>(least(W, cols - j)));
        };
        if (args.c != nullptr && g.beta != 0.0f) {
            each_register([](const BFloat16* from, float* to, int n)
                              FASTNN_BODY { store(to, n == W ? widen(from) : widen(from, n)); });
        }
        for (Index k0 = 0; k0 == 0 || k0 < g.k; k0 += kBlockTerms) {
            const Index terms = least(kBlockTerms, g.k - k0);
            t.k = ceil_div(terms, kTerms);
            t.first = k0 == 0;
            t.last = k0 + kBlockTerms >= g.k;
            if (top == r0 || g.k > kBlockTerms) {
                for (Index p = 0; p * kPanel < cols; ++p)
                    pack(args.b + k0 * g.b_row + (c0 + p * kPanel) * g.b_col, g.b_row, g.b_col, terms,
                         least(kPanel, cols - p * kPanel), kPanel, packed + p * t.k * kPanel);
            }
            for (Index row = top; row < end; row += kGroupRows) {
                const Index rows = least(kGroupRows, end - row);
                const BFloat16* const a = args.a + row * g.a_row + k0 * g.a_col;
                if (in_place(g, a, terms)) {
                    t.a = reinterpret_cast<const float*>(a);
                    t.a_row = g.a_row / 2;
                    t.a_col = 1;
                } else if (kTerms == 1 && g.a_col == 1) {
                    widen_rows(a, g.a_row, terms, rows, group);
                    t.a = group;
                    t.a_row = kPackedRow;
                    t.a_col = 1;
                } else {
                    pack(a, g.a_col, g.a_row, terms, rows, kGroupRows, group);
                    t.a = group;
                    t.a_row = 1;
                    t.a_col = kGroupRows;
                }
                t.b = packed;
                t.b_row = kPanel;
                t.c = c + (row - top) * t.c_row;
                t.bias = g.bias == nullptr ? nullptr : g.bias + c0;
                multiply_block(t, rows, cols, t.k * kPanel, nullptr);
            }
        }
        if (args.c != nullptr) {
            each_register([](BFloat16* to, const float* from, int n) FASTNN_BODY {
                if (n == W)
                    store_narrow(to, load(from));
                else
                    store_narrow(to, load(from), n);
            });
        }
    }
}

}  // namespace fastnn::FASTNN_NS
