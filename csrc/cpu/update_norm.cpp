// What an update must know of all gradients before it changes anything: whether they are finite, and their
// norms. One read of the gradients: a sum of squares is finite exactly when every term is.
//
// The order of every sum is fixed by the shape: sixteen lanes in four chains over 4096 elements, in float32
// (at most 70 roundings of positive terms), then doubles in the order of the elements.
#include "core/norms.h"
#include "core/rules.h"
#include "cpu/entries.h"
#include "cpu/index.h"
#include "cpu/stream.h"
#include "cpu/update_tensors.h"

namespace fastnn::FASTNN_NS {
namespace {

constexpr Index kUnitColumns = 4 * kLanes;  // of a chunk of update_units

FASTNN_INLINE float block_sum_squares(const float* x, Index n) {
    Vec s[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
    Index i = 0;
    for (; i + 4 * kLanes <= n; i += 4 * kLanes)
        unroll<4>([&](auto k) FASTNN_BODY {
            const Vec v = vload(x + i + k * kLanes);
            s[k] = fma(v, v, s[k]);
        });
    each_vector(i, n, [&](Index j, int lanes) FASTNN_BODY {
        const Vec v = vload(x + j, lanes);
        s[0] = fma(v, v, s[0]);
    });
    return sum((s[0] + s[1]) + (s[2] + s[3]));
}

FASTNN_INLINE double sum_squares(const float* x, Index n) {
    double total = 0.0;
    for (Index i = 0; i < n; i += kSummed) {
        const Index count = least(kSummed, n - i);
        total += checked_squares(block_sum_squares(x + i, count), x + i, count, 1);
    }
    return total;
}

FASTNN_INLINE void column_scales(const UpdateArgs& a, const UpdateTensor& t, Index column, int lanes) {
    const Index rows = t.n / t.cols;
    Vec grad_squares = splat(0.0f);
    Vec param_squares = splat(0.0f);
    for (Index first = 0; first < rows; first += kUnitRows) {
        Vec g = splat(0.0f);
        Vec p = splat(0.0f);
        const Index stop = least(rows, first + kUnitRows);
        for (Index row = first; row < stop; ++row) {
            const Vec dw = vload(t.grad + row * t.cols + column, lanes);
            const Vec w = vload(t.param + row * t.cols + column, lanes);
            g = fma(dw, dw, g);
            p = fma(w, w, p);
        }
        grad_squares = grad_squares + g;
        param_squares = param_squares + p;
    }
    float found[2][kLanes];
    vstore(found[0], grad_squares);
    vstore(found[1], param_squares);
    for (int k = 0; k < lanes; ++k) {
        double squares[2];
        for (int i = 0; i < 2; ++i)
            squares[i] = checked_squares(found[i][k], (i == 0 ? t.grad : t.param) + column + k, rows, t.cols);
        a.scales[t.first_unit + column + k] =
            adaptive_scale(squares[0], squares[1], a.clip_limit, a.clip_floor);
    }
}

}  // namespace

int update_sum_chunks(const UpdateArgs& a) { return a.sums != nullptr ? static_cast<int>(a.chunks) : 0; }

FASTNN_FLAT void update_sum(const UpdateArgs& a, int chunk, Scratch&) {
    const UpdateTensor& t = a.tensors[tensor_of<&UpdateTensor::first_chunk>(a, chunk)];
    const Index size = update_chunk(t.n);
    const Index begin = (chunk - t.first_chunk) * size;
    a.sums[chunk] = sum_squares(t.grad + begin, least(size, t.n - begin));
}

int update_units_chunks(const UpdateArgs& a) { return static_cast<int>(a.unit_chunks); }

// A vector is one unit; of a matrix (in, out), or of more dimensions, each column is one.
FASTNN_FLAT void update_units(const UpdateArgs& a, int chunk, Scratch&) {
    const UpdateTensor t = a.tensors[tensor_of<&UpdateTensor::first_unit_chunk>(a, chunk)];
    if (t.units == 1) {
        a.scales[t.first_unit] =
            adaptive_scale(sum_squares(t.grad, t.n), sum_squares(t.param, t.n), a.clip_limit, a.clip_floor);
        return;
    }
    const Index begin = (chunk - t.first_unit_chunk) * kUnitColumns;
    each_vector(begin, least(begin + kUnitColumns, t.cols),
                [&](Index column, int lanes) FASTNN_BODY { column_scales(a, t, column, lanes); });
}

int update_verdict_chunks(const UpdateArgs& a) { return a.sums != nullptr ? 1 : 0; }

void update_verdict(const UpdateArgs& a, int, Scratch&) { decide(a); }

}  // namespace fastnn::FASTNN_NS
