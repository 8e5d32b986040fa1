// What an update must know of all gradients before it changes anything: whether they are finite, and their
// norms. One read of the gradients: a sum of squares is finite exactly when every term is.
//
// The order of every sum is fixed by the shape: sixteen lanes in four chains over 4096 elements, in float32
// (at most 70 roundings of positive terms), then doubles in the order of the elements.
#include "core/rules.h"
#include "cpu/entries.h"
#include "cpu/index.h"
#include "cpu/stream.h"
#include "cpu/update_tensors.h"

namespace fastnn::FASTNN_NS {
namespace {

constexpr Index kSummed = 4096;
constexpr Index kUnitColumns = 4 * kLanes;  // of a chunk of update_units
constexpr Index kUnitRows = 64;             // summed in one chain

// For sums beyond float32; infinite or NaN exactly when a term is.
FASTNN_INLINE double sum_squares_exactly(const float* x, Index n, Index stride) {
    double total = 0.0;
    for (Index i = 0; i < n; ++i) {
        const double v = static_cast<double>(x[i * stride]);
        total += v * v;
    }
    return total;
}

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
        const float block = block_sum_squares(x + i, count);
        total +=
            __builtin_isfinite(block) ? static_cast<double>(block) : sum_squares_exactly(x + i, count, 1);
    }
    return total;
}

// max / norm where the norm is larger, else 1. NaN stays NaN; an infinite norm gives 0.
FASTNN_INLINE float scale_of(double norm, double largest) {
    return norm <= largest ? 1.0f : static_cast<float>(largest / norm);
}

FASTNN_INLINE float adaptive_scale(const UpdateArgs& a, double grad_squares, double param_squares) {
    const double weights = __builtin_sqrt(param_squares);
    const double floor = static_cast<double>(a.clip_floor);
    return scale_of(__builtin_sqrt(grad_squares),
                    static_cast<double>(a.clip_limit) * (weights > floor ? weights : floor));
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
            squares[i] = __builtin_isfinite(found[i][k])
                             ? static_cast<double>(found[i][k])
                             : sum_squares_exactly((i == 0 ? t.grad : t.param) + column + k, rows, t.cols);
        a.scales[t.first_unit + column + k] = adaptive_scale(a, squares[0], squares[1]);
    }
}

}  // namespace

int update_sum_chunks(const UpdateArgs& a) { return a.sums != nullptr ? static_cast<int>(a.chunks) : 0; }

FASTNN_FLAT void update_sum(const UpdateArgs& a, int chunk, Scratch&) {
    const UpdateTensor& t = a.tensors[tensor_of<&UpdateTensor::first_chunk>(a, chunk)];
    const Index size = stream_chunk(t.n);
    const Index begin = (chunk - t.first_chunk) * size;
    a.sums[chunk] = sum_squares(t.grad + begin, least(size, t.n - begin));
}

int update_units_chunks(const UpdateArgs& a) { return static_cast<int>(a.unit_chunks); }

// A vector is one unit; of a matrix (in, out), or of more dimensions, each column is one.
FASTNN_FLAT void update_units(const UpdateArgs& a, int chunk, Scratch&) {
    const UpdateTensor t = a.tensors[tensor_of<&UpdateTensor::first_unit_chunk>(a, chunk)];
    if (t.units == 1) {
        a.scales[t.first_unit] = adaptive_scale(a, sum_squares(t.grad, t.n), sum_squares(t.param, t.n));
        return;
    }
    const Index begin = (chunk - t.first_unit_chunk) * kUnitColumns;
    each_vector(begin, least(begin + kUnitColumns, t.cols),
                [&](Index column, int lanes) FASTNN_BODY { column_scales(a, t, column, lanes); });
}

int update_verdict_chunks(const UpdateArgs& a) { return a.sums != nullptr ? 1 : 0; }

void update_verdict(const UpdateArgs& a, int, Scratch&) {
    UpdateVerdict& verdict = *a.verdict;
    double total = 0.0;
    for (Index i = 0; i < a.count; ++i) {
        const Index first = a.tensors[i].first_chunk;
        const Index last = i + 1 < a.count ? a.tensors[i + 1].first_chunk : a.chunks;
        double own = 0.0;
        for (Index chunk = first; chunk < last; ++chunk) own += a.sums[chunk];
        if (verdict.non_finite < 0 && !__builtin_isfinite(own)) verdict.non_finite = i;
        if (a.clip == Clip::norm)
            a.scales[i] = scale_of(__builtin_sqrt(own), static_cast<double>(a.clip_limit));
        total += own;
    }
    if (a.clip == Clip::global_norm) {
        const float scale = scale_of(__builtin_sqrt(total), static_cast<double>(a.clip_limit));
        for (Index i = 0; i < a.count; ++i) a.scales[i] = scale;
    }
    verdict.refused = a.refuse_non_finite && verdict.non_finite >= 0;
}

}  // namespace fastnn::FASTNN_NS
