// Elementwise losses with their gradients: each formula of core/losses.h in one pass.
//
// Without weights, or with one output a row, the elements are one run; else rows are walked, each with its
// weight. A chunk sums its losses in sixteen lanes and gives one number.
#include "core/losses.h"
#include "core/sums.h"
#include "cpu/entries.h"
#include "cpu/index.h"
#include "cpu/stream.h"

namespace fastnn::FASTNN_NS {

int point_loss_chunks(const PointLossArgs& a) { return static_cast<int>(loss_chunks(a)); }

namespace {

constexpr Index kBlock = kLossVectors * kLanes;

// The sum of the losses of [begin, end) in lanes; the gradient is multiplied by weight(i, lanes), and so are
// the losses if kWeighted.
template <bool kWeighted, class Formula, class Weight>
FASTNN_INLINE Vec losses(const PointLossArgs& a, Index begin, Index end, Formula formula, Weight weight) {
    Vec total = splat(0.0f);
    for (Index block = begin; block < end; block += kBlock) {
        Vec part = splat(0.0f);
        each_vector(block, least(block + kBlock, end), [&](Index i, int n) FASTNN_BODY {
            Vec slope;
            const Vec loss = formula(vload(a.pred + i, n), vload(a.target + i, n), slope);
            const Vec w = weight(i, n);
            vstore(a.dpred + i, slope * w, n);
            part = part + first_of(kWeighted ? loss * w : loss, splat(0.0f), n);
        });
        total = total + part;
    }
    return total;
}

template <class Formula>
FASTNN_INLINE void point_loss_chunk(const PointLossArgs& args, int chunk, Formula formula) {
    const PointLossArgs a = args;  // a copy: stores cannot change it, so it stays in registers
    Vec total = splat(0.0f);
    if (one_run(a)) {
        const Index size = stream_chunk(a.rows * a.cols);
        const Index begin = chunk * size;
        const Index end = least(begin + size, a.rows * a.cols);
        if (a.weight == nullptr) {
            total =
                losses<false>(a, begin, end, formula, [&](Index, int) FASTNN_BODY { return splat(a.scale); });
        } else {
            total = losses<true>(a, begin, end, formula,
                                 [&](Index i, int n) FASTNN_BODY { return vload(a.weight + i, n); });
        }
    } else {
        const Index first = chunk * loss_rows_per_chunk(a);
        const Index last = least(first + loss_rows_per_chunk(a), a.rows);
        for (Index block = first; block < last; block += kLossRows) {
            Vec part = splat(0.0f);
            for (Index row = block; row < least(block + kLossRows, last); ++row) {
                const float w = a.weight[row];
                part = part + losses<true>(a, row * a.cols, (row + 1) * a.cols, formula,
                                           [&](Index, int) FASTNN_BODY { return splat(w); });
            }
            total = total + part;
        }
    }
    a.sums[chunk] = static_cast<double>(sum(total));
}

}  // namespace

FASTNN_FLAT void point_loss(const PointLossArgs& a, int chunk, Scratch&) {
    switch (a.kind) {
        case PointLoss::squared:
            point_loss_chunk(a, chunk, [](const Vec& pred, const Vec& target, Vec& slope) FASTNN_BODY {
                return squared_loss(pred, target, slope);
            });
            return;
        case PointLoss::huber:
            point_loss_chunk(a, chunk,
                             [delta = a.delta](const Vec& pred, const Vec& target, Vec& slope)
                                 FASTNN_BODY { return huber_loss(pred, target, splat(delta), slope); });
            return;
        case PointLoss::logistic:
            point_loss_chunk(a, chunk, [](const Vec& pred, const Vec& target, Vec& slope) FASTNN_BODY {
                return logistic_loss(pred, target, slope);
            });
            return;
    }
}

}  // namespace fastnn::FASTNN_NS
