// Optimizer updates over a list of arrays in one launch: each rule of core/rules.h, four elements a thread.
#include "core/kernels.h"
#include "core/noise.h"
#include "core/rules.h"
#include "cuda/entries.h"
#include "cuda/update_tensors.h"

namespace fastnn {
namespace {

// One kernel holds all rules and what is done to a gradient first. In blocks of 256 it would spill, or leave
// room for two of them.
constexpr int kUpdateThreads = 128;
constexpr int kElements = 4 * kUpdateThreads;  // of a block of threads

// Thread blocks for each of the CPU's chunks, by whose numbers an array is found.
constexpr Index kBlocksPerChunk = stream_chunk(0) / kElements;
static_assert(stream_chunk(0) % kElements == 0);

FASTNN_RULE UpdateCoefficients<float> coefficients(const UpdateOptions& o) {
    return {o.lr,  o.decay0,     o.decay1,       o.one_minus0, o.one_minus1,
            o.eps, o.eps_inside, o.square_scale, o.root_scale, o.keep};
}

// The two lines of decay on a gradient, or on the parameter itself.
FASTNN_RULE float decayed(const UpdateOptions& o, float target, float gap) {
    const float direction = o.decay_parameter ? -1.0f : 1.0f;
    if (o.decay != 0.0f) target = with_decay(target, gap, direction * o.decay);
    if (o.l1 != 0.0f) target = with_l1(target, gap, direction * o.l1);
    return target;
}

// The normal number of element i.
FASTNN_RULE float noise_of(const UpdateTensor& t, const UpdateOptions& o, Index i) {
    const Index block = i / kDropoutBlock;
    const DropoutKey key = noise_key(o.noise_seed, o.noise_step, t.place, static_cast<std::uint64_t>(block));
    const auto place = static_cast<std::uint32_t>(i - block * kDropoutBlock);
    return normal_of(as_float(noise_bits(key.start + place * kDropoutStride, key.middle)));
}

// What clipping and noise make of a gradient.
FASTNN_RULE float prepared(const UpdateArgs& a, const UpdateTensor& t, const UpdateOptions& o, Index i,
                           float grad) {
    if (a.clip == Clip::value)
        grad = min_(a.clip_limit, max_(-a.clip_limit, grad));  // it stands second: NaN stays NaN
    else if (a.scales != nullptr && (t.units > 1 || a.scales[t.first_unit] != 1.0f))
        grad = grad * a.scales[t.first_unit + (t.units > 1 ? i % t.cols : 0)];
    return o.noise != 0.0f ? fma(o.noise, noise_of(t, o, i), grad) : grad;
}

// kSlots: bit i is set where the rule has slot i.
template <int kSlots, int W, class Rule>
FASTNN_RULE void apply(const UpdateArgs& a, const UpdateTensor& t, const UpdateOptions& o, Index i,
                       Rule rule) {
    const UpdateCoefficients<float> c = coefficients(o);
    Pack<W> param = load<W>(t.param + i);
    const Pack<W> grad = load<W>(t.grad + i);
    Pack<W> slot0{}, slot1{}, slot2{}, initial{};
    if constexpr ((kSlots & 1) != 0) slot0 = load<W>(t.slot0 + i);
    if constexpr ((kSlots & 2) != 0) slot1 = load<W>(t.slot1 + i);
    if constexpr ((kSlots & 4) != 0) slot2 = load<W>(t.slot2 + i);
    if (t.initial != nullptr) initial = load<W>(t.initial + i);
#pragma unroll
    for (int l = 0; l < W; ++l) {
        UpdateState<float> s{param.v[l], prepared(a, t, o, i + l, grad.v[l]), slot0.v[l], slot1.v[l],
                             slot2.v[l]};
        if (o.decay != 0.0f || o.l1 != 0.0f) {
            const float gap = t.initial != nullptr ? s.param - initial.v[l] : s.param;
            if (o.decay_parameter)
                s.param = decayed(o, s.param, gap);
            else
                s.grad = decayed(o, s.grad, gap);
        }
        rule(s, c);
        param.v[l] = s.param;
        slot0.v[l] = s.slot0;
        slot1.v[l] = s.slot1;
        slot2.v[l] = s.slot2;
    }
    store<W>(t.param + i, param);
    if constexpr ((kSlots & 1) != 0) store<W>(t.slot0 + i, slot0);
    if constexpr ((kSlots & 2) != 0) store<W>(t.slot1 + i, slot1);
    if constexpr ((kSlots & 4) != 0) store<W>(t.slot2 + i, slot2);
}

// The elements of this thread.
template <int kSlots, class Rule>
FASTNN_RULE void each(const UpdateArgs& a, const UpdateTensor& t, const UpdateOptions& o, Index chunk,
                      Rule rule) {
    const bool packs = aligned(t.param, t.grad, t.slot0, t.slot1, t.slot2, t.initial);
    const Index size = update_chunk(t.n);
    const Index begin = (chunk - t.first_chunk) * size;
    const Index end = begin + size < t.n ? begin + size : t.n;
    // Once, but in arrays past 2^33 elements.
    for (Index i = begin + blockIdx.x % kBlocksPerChunk * kElements + threadIdx.x * 4; i < end;
         i += kBlocksPerChunk * kElements) {
        if (packs && i + 4 <= end)
            apply<kSlots, 4>(a, t, o, i, rule);
        else
            for (Index j = i; j < i + 4 && j < end; ++j) apply<kSlots, 1>(a, t, o, j, rule);
    }
}

#define FASTNN_EACH(slots, ...) \
    each<slots>(a, t, o, chunk, \
                [](UpdateState<float>& s, const UpdateCoefficients<float>& c) { __VA_ARGS__(s, c); })

// All threads of a block go the same way: an array has one rule and style.
__global__ void __launch_bounds__(kUpdateThreads, 5) update(UpdateArgs a) {
    if (a.verdict != nullptr && a.verdict->refused) return;
    const Index chunk = blockIdx.x / kBlocksPerChunk;
    const UpdateTensor t = tensor_of<&UpdateTensor::first_chunk>(a, chunk);
    const UpdateOptions& o = a.options[t.group];
    switch (o.rule) {
        case Rule::sgd:
            return FASTNN_EACH(0, sgd_rule);
        case Rule::momentum:
            if (o.style == MomentumStyle::buffer)
                return o.nesterov ? FASTNN_EACH(1, momentum_rule<false, true>)
                                  : FASTNN_EACH(1, momentum_rule<false, false>);
            return o.nesterov ? FASTNN_EACH(1, momentum_rule<true, true>)
                              : FASTNN_EACH(1, momentum_rule<true, false>);
        case Rule::rmsprop:
            if (o.centered)
                return o.buffered ? FASTNN_EACH(7, rmsprop_rule<true, true>)
                                  : FASTNN_EACH(3, rmsprop_rule<true, false>);
            return o.buffered ? FASTNN_EACH(5, rmsprop_rule<false, true>)
                              : FASTNN_EACH(1, rmsprop_rule<false, false>);
        case Rule::adagrad:
            return FASTNN_EACH(1, adagrad_rule);
        case Rule::adam:
            return o.amsgrad ? FASTNN_EACH(7, adam_rule<true>) : FASTNN_EACH(3, adam_rule<false>);
        case Rule::rprop:
            return FASTNN_EACH(3, rprop_rule);
    }
}
#undef FASTNN_EACH

}  // namespace

int cuda_update(const UpdateArgs& a, void* stream) {
    if (a.chunks == 0) return 0;
    FASTNN_LAUNCH(update, static_cast<unsigned>(a.chunks * kBlocksPerChunk), kUpdateThreads, stream, a);
    return launched();
}

}  // namespace fastnn
