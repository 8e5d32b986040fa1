// Rounding to bfloat16, for products in that precision of arrays that are float32.
#include "cpu/bf16.h"
#include "cpu/entries.h"
#include "cpu/index.h"
#include "cpu/stream.h"
#include "cpu/tile.h"

namespace fastnn::FASTNN_NS {
namespace {

constexpr int W = Reg::kWidth;

FASTNN_INLINE Index rows_of_chunk(const RoundArgs& r) { return most(stream_chunk(0) / most(r.cols, 1), 1); }

// The lower half becomes zero: where products are those of float32 (kTerms is 1) it takes part.
FASTNN_INLINE Reg rounded(Reg x) { return floats_of(narrow(x) & iset1(0xffff0000)); }

FASTNN_INLINE void round_row(const float* x, void* to, Index at, Index cols) {
    if constexpr (kTerms == 1) {
        float* const y = static_cast<float*>(to) + at;
        each_vector(0, cols, [&](Index j, int n) FASTNN_BODY {
            const Vec v = vload(x + j, n);
            vstore(y + j, map([&](int i) FASTNN_BODY { return rounded(v.r[i]); }), n);
        });
    } else {
        BFloat16* const y = static_cast<BFloat16*>(to) + at;
        Index j = 0;
        for (; j + W <= cols; j += W) store_narrow(y + j, load(x + j));
        if (const int n = static_cast<int>(cols - j); n > 0) store_narrow(y + j, load(x + j, n), n);
    }
}

}  // namespace

int round_bf16_chunks(const RoundArgs& r) { return static_cast<int>(ceil_div(r.rows, rows_of_chunk(r))); }

void round_bf16(const RoundArgs& r, int chunk, Scratch&) {
    const Index size = rows_of_chunk(r);
    for (Index i = chunk * size; i < least((chunk + 1) * size, r.rows); ++i)
        round_row(r.x + i * r.x_row, r.y, i * r.cols, r.cols);
}

}  // namespace fastnn::FASTNN_NS
