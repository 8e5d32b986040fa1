// Elementwise losses with their gradients: each formula of core/losses.h in one pass.
//
// Without weights, or with one output a row, the elements are one run; else rows are walked, each with its
// weight. A chunk sums its losses in sixteen lanes, 64 vectors at a time, and gives one number.
#include "core/losses.h"
#include "cpu/entries.h"
#include "cpu/index.h"
#include "cpu/stream.h"

namespace fastnn::FASTNN_NS {
namespace {

bool one_run(const PointLossArgs& a) { return a.weight == nullptr || a.cols == 1; }

Index rows_per_chunk(const PointLossArgs& a) {
    return most(stream_chunk(a.rows * a.cols) / a.cols, a.rows / 65536 + 1);
}

}  // namespace

int point_loss_chunks(const PointLossArgs& a) {
    if (one_run(a)) return static_cast<int>(stream_chunks(a.rows * a.cols));
    return static_cast<int>(ceil_div(a.rows, rows_per_chunk(a)));
}

namespace {

// A long sum: its lanes never add more than 64 terms, or 64 times fewer sums of these, one by one.
struct LaneSum {
    Vec near = splat(0.0f), far = splat(0.0f);
    int count = 0;

    FASTNN_BODY void add(const Vec& x) {
        near = near + x;
        if (++count < 64) return;
        far = far + near;
        near = splat(0.0f);
        count = 0;
    }
    FASTNN_BODY float total() const { return sum(far + near); }
};

template <class Formula>
FASTNN_INLINE void point_loss_chunk(const PointLossArgs& a, int chunk, Formula formula) {
    LaneSum losses;
    const auto at = [&](Index i, int n)
                        FASTNN_BODY { return formula(vload(a.pred + i, n), vload(a.target + i, n)); };
    const auto add = [&](const Vec& x, int n) FASTNN_BODY { losses.add(first_of(x, splat(0.0f), n)); };
    const auto weighted = [&](Index i, int n, const Vec& weight) FASTNN_BODY {
        const LossAt<Vec> l = at(i, n);
        vstore(a.dpred + i, l.slope * weight, n);
        add(l.value * weight, n);
    };
    if (one_run(a)) {
        const Index size = stream_chunk(a.rows * a.cols);
        const Index begin = chunk * size;
        const Index end = least(begin + size, a.rows * a.cols);
        if (a.weight != nullptr)
            each_vector(begin, end,
                        [&](Index i, int n) FASTNN_BODY { weighted(i, n, vload(a.weight + i, n)); });
        else
            each_vector(begin, end, [&](Index i, int n) FASTNN_BODY {
                const LossAt<Vec> l = at(i, n);
                vstore(a.dpred + i, l.slope * splat(a.scale), n);
                add(l.value, n);
            });
    } else {
        const Index first = chunk * rows_per_chunk(a);
        const Index last = least(first + rows_per_chunk(a), a.rows);
        for (Index row = first; row < last; ++row) {
            const Vec weight = splat(a.weight[row]);
            each_vector(row * a.cols, (row + 1) * a.cols,
                        [&](Index i, int n) FASTNN_BODY { weighted(i, n, weight); });
        }
    }
    a.sums[chunk] = static_cast<double>(losses.total());
}

}  // namespace

FASTNN_FLAT void point_loss(const PointLossArgs& a, int chunk, Scratch&) {
    switch (a.kind) {
        case PointLoss::squared:
            point_loss_chunk(a, chunk, [](const Vec& pred, const Vec& target) FASTNN_BODY {
                return squared_loss(pred, target);
            });
            return;
        case PointLoss::huber:
            point_loss_chunk(a, chunk, [&a](const Vec& pred, const Vec& target) FASTNN_BODY {
                return huber_loss(pred, target, splat(a.delta));
            });
            return;
        case PointLoss::logistic:
            point_loss_chunk(a, chunk, [](const Vec& pred, const Vec& target) FASTNN_BODY {
                return logistic_loss(pred, target);
            });
            return;
    }
}

}  // namespace fastnn::FASTNN_NS
