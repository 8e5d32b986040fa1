// Optimizer updates over a list of arrays in one pass: each rule of core/rules.h in one loop.
#include "core/rules.h"
#include "cpu/entries.h"
#include "cpu/stream.h"

namespace fastnn::FASTNN_NS {

int update_chunks(const UpdateArgs& a) { return static_cast<int>(a.chunks); }

namespace {

// The tensor that holds a chunk: the last one whose first chunk is not beyond it.
const UpdateTensor& tensor_of(const UpdateArgs& a, Index chunk) {
    Index low = 0;
    Index high = a.count;
    while (high - low > 1) {
        const Index middle = (low + high) / 2;
        (a.tensors[middle].first_chunk <= chunk ? low : high) = middle;
    }
    return a.tensors[low];
}

template <int kSlots, class Rule>
FASTNN_INLINE void each(const UpdateArgs& a, int chunk, Rule rule) {
    const UpdateTensor t = tensor_of(a, chunk);  // a copy: through a reference each store reloads it
    const UpdateCoefficients<Vec> c{splat(a.lr),         splat(a.decay0),      splat(a.decay1),
                                    splat(a.one_minus0), splat(a.one_minus1),  splat(a.eps),
                                    splat(a.root_scale), splat(a.weight_decay)};
    stream(t.param, t.n, static_cast<int>(chunk - t.first_chunk), [&](Index i, int n) FASTNN_BODY {
        UpdateState<Vec> s{vload(t.param + i, n), vload(t.grad + i, n), splat(0.0f), splat(0.0f)};
        if constexpr (kSlots > 0) s.slot0 = vload(t.slot0 + i, n);
        if constexpr (kSlots > 1) s.slot1 = vload(t.slot1 + i, n);
        rule(s, c);
        vstore(t.param + i, s.param, n);
        if constexpr (kSlots > 0) vstore(t.slot0 + i, s.slot0, n);
        if constexpr (kSlots > 1) vstore(t.slot1 + i, s.slot1, n);
    });
}

}  // namespace

FASTNN_FLAT void update(const UpdateArgs& a, int chunk, Scratch&) {
    using State = UpdateState<Vec>;
    using Coefficients = UpdateCoefficients<Vec>;
    switch (a.rule) {
        case Rule::sgd:
            each<0>(a, chunk, [](State& s, const Coefficients& c) FASTNN_BODY { sgd_rule(s, c); });
            return;
        case Rule::momentum:
            if (a.style == MomentumStyle::buffer && !a.nesterov)
                each<1>(a, chunk, [](State& s, const Coefficients& c) FASTNN_BODY {
                    momentum_rule<false, false>(s, c);
                });
            else if (a.style == MomentumStyle::buffer)
                each<1>(a, chunk, [](State& s, const Coefficients& c) FASTNN_BODY {
                    momentum_rule<false, true>(s, c);
                });
            else if (!a.nesterov)
                each<1>(a, chunk, [](State& s, const Coefficients& c) FASTNN_BODY {
                    momentum_rule<true, false>(s, c);
                });
            else
                each<1>(a, chunk,
                        [](State& s, const Coefficients& c) FASTNN_BODY { momentum_rule<true, true>(s, c); });
            return;
        case Rule::rmsprop:
            each<1>(a, chunk, [](State& s, const Coefficients& c) FASTNN_BODY { rmsprop_rule(s, c); });
            return;
        case Rule::adagrad:
            each<1>(a, chunk, [](State& s, const Coefficients& c) FASTNN_BODY { adagrad_rule(s, c); });
            return;
        case Rule::adam:
            if (a.decoupled)
                each<2>(a, chunk,
                        [](State& s, const Coefficients& c) FASTNN_BODY { adam_rule<true>(s, c, true); });
            else if (a.weight_decay != 0.0f)
                each<2>(a, chunk,
                        [](State& s, const Coefficients& c) FASTNN_BODY { adam_rule<false>(s, c, true); });
            else
                each<2>(a, chunk,
                        [](State& s, const Coefficients& c) FASTNN_BODY { adam_rule<false>(s, c, false); });
            return;
    }
}

}  // namespace fastnn::FASTNN_NS
