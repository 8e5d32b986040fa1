// Optimizer updates over a list of arrays in one pass over memory: each rule of core/rules.h in one loop.
// What clipping, noise and decay do to the gradient is done block by block into a buffer of the first-level
// cache, which the rule then reads in place of the gradient: nothing of it is compiled into the rules.
#include "core/noise.h"
#include "core/rules.h"
#include "cpu/entries.h"
#include "cpu/index.h"
#include "cpu/math.h"
#include "cpu/stream.h"
#include "cpu/update_tensors.h"

namespace fastnn::FASTNN_NS {

int update_apply_chunks(const UpdateArgs& a) { return static_cast<int>(a.chunks); }

namespace {

// Elements prepared at a time: 8 KB beside four streams of the rule.
constexpr Index kPrepared = 2048;

// ---- the rules

// Vec, or float where there are no vectors (sixteen copies of each rule took 20 s to compile).
using F = std::conditional_t<Reg::kVector, Vec, float>;

FASTNN_INLINE UpdateCoefficients<F> coefficients(const UpdateOptions& o) {
    return {constant<F>(o.lr),         constant<F>(o.decay0),       constant<F>(o.decay1),
            constant<F>(o.one_minus0), constant<F>(o.one_minus1),   constant<F>(o.eps),
            constant<F>(o.eps_inside), constant<F>(o.square_scale), constant<F>(o.root_scale),
            constant<F>(o.keep)};
}

template <class V>
struct RootsByProducts : UpdateCoefficients<V> {
    FASTNN_INLINE V root(const V& x) { return root_by_products(x); }
};

// kSlots: bit i is set where the rule has slot i.
template <class Coefficients, int kSlots, class Rule>
FASTNN_INLINE void each(const UpdateTensor& tensor, const UpdateOptions& o, Rule rule) {
    const UpdateTensor t = tensor;  // a copy: through a reference each store reloads it
    const Coefficients c{coefficients(o)};
    const auto step = [&](Index i, auto load, auto store) FASTNN_BODY {
        UpdateState<F> s{load(t.param + i), load(t.grad + i), constant<F>(0.0f), constant<F>(0.0f),
                         constant<F>(0.0f)};
        if constexpr ((kSlots & 1) != 0) s.slot0 = load(t.slot0 + i);
        if constexpr ((kSlots & 2) != 0) s.slot1 = load(t.slot1 + i);
        if constexpr ((kSlots & 4) != 0) s.slot2 = load(t.slot2 + i);
        rule(s, c);
        store(t.param + i, s.param);
        if constexpr ((kSlots & 1) != 0) store(t.slot0 + i, s.slot0);
        if constexpr ((kSlots & 2) != 0) store(t.slot1 + i, s.slot1);
        if constexpr ((kSlots & 4) != 0) store(t.slot2 + i, s.slot2);
    };
    if constexpr (Reg::kVector) {
        stream_range(t.param, 0, t.n, [&](Index i, int n) FASTNN_BODY {
            step(
                i, [=](const float* p) FASTNN_BODY { return vload(p, n); },
                [=](float* p, const Vec& x) FASTNN_BODY { vstore(p, x, n); });
        });
    } else {
        for (Index i = 0; i < t.n; ++i)
            step(
                i, [](const float* p) FASTNN_BODY { return *p; },
                [](float* p, float x) FASTNN_BODY { *p = x; });
    }
}

#define FASTNN_EACH(slots, ...) \
    each<Coefficients, slots>(t, o, [](auto& s, const auto& c) FASTNN_BODY { __VA_ARGS__(s, c); })

template <class Coefficients>
FASTNN_FLAT __attribute__((noinline)) void run_rule(const UpdateTensor& t, const UpdateOptions& o) {
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

template <class V>
void run(const UpdateTensor& t, const UpdateOptions& o) {
    if constexpr (kRootByProducts)
        if (slow_divider()) return run_rule<RootsByProducts<V>>(t, o);
    run_rule<UpdateCoefficients<V>>(t, o);
}

// ---- the gradient that the rule sees, of elements [begin, begin + n), into `out`

// One factor for all, or one for each column.
FASTNN_INLINE void scaled(const UpdateTensor& t, const float* scales, Index begin, Index n, float* out) {
    if (t.units == 1) {
        const Vec scale = splat(scales[0]);
        each_vector(0, n, [&](Index i, int lanes) FASTNN_BODY {
            vstore(out + i, vload(t.grad + begin + i, lanes) * scale, lanes);
        });
        return;
    }
    for (Index i = 0; i < n;) {
        const Index column = (begin + i) % t.cols;
        const Index stop = least(n, i + t.cols - column);
        const float* scale = scales + column - i;
        each_vector(i, stop, [&](Index j, int lanes) FASTNN_BODY {
            vstore(out + j, vload(t.grad + begin + j, lanes) * vload(scale + j, lanes), lanes);
        });
        i = stop;
    }
}

FASTNN_INLINE void clipped(const UpdateTensor& t, float limit, Index begin, Index n, float* out) {
    const Vec high = splat(limit);
    const Vec low = splat(-limit);
    each_vector(0, n, [&](Index i, int lanes) FASTNN_BODY {
        // The gradient stands second: NaN stays NaN.
        vstore(out + i, min_(high, max_(low, vload(t.grad + begin + i, lanes))), lanes);
    });
}

FASTNN_INLINE void add_noise(const UpdateTensor& t, const UpdateOptions& o, Index begin, Index n,
                             float* out) {
    const Vec deviation = splat(o.noise);
    for (Index i = 0; i < n;) {
        const Index block = (begin + i) / kDropoutBlock;
        const Index stop = least(n, (block + 1) * kDropoutBlock - begin);
        const DropoutKey key =
            noise_key(o.noise_seed, o.noise_step, t.place, static_cast<std::uint64_t>(block));
        const auto place = static_cast<std::uint32_t>(begin + i - block * kDropoutBlock);
        IntVec counter = lane_numbers() * kDropoutStride + (key.start + place * kDropoutStride);
        each_vector(i, stop, [&](Index j, int lanes) FASTNN_BODY {
            const Vec x = as_floats(noise_bits(counter, key.middle));
            const Vec normal = lanewise([](const auto& v) FASTNN_BODY { return normal_of(v); }, x);
            vstore(out + j, fma(deviation, normal, vload(out + j, lanes)), lanes);
            counter = counter + kDropoutStride * static_cast<std::uint32_t>(lanes);
        });
        i = stop;
    }
}

// Decay adds to the gradient in `out`, or moves the parameter.
FASTNN_INLINE void add_decay(const UpdateTensor& t, const UpdateOptions& o, Index begin, Index n,
                             float* out) {
    float* param = t.param + begin;
    float* target = o.decay_parameter ? param : out;
    const float direction = o.decay_parameter ? -1.0f : 1.0f;
    const Vec decay = splat(direction * o.decay);
    const Vec l1 = splat(direction * o.l1);
    each_vector(0, n, [&](Index i, int lanes) FASTNN_BODY {
        Vec gap = vload(param + i, lanes);
        if (t.initial != nullptr) gap = gap - vload(t.initial + begin + i, lanes);
        Vec x = vload(target + i, lanes);
        if (o.decay != 0.0f) x = with_decay(x, gap, decay);
        if (o.l1 != 0.0f) x = with_l1(x, gap, l1);
        vstore(target + i, x, lanes);
    });
}

FASTNN_FLAT __attribute__((noinline)) void prepare(const UpdateArgs& a, const UpdateTensor& t,
                                                   const UpdateOptions& o, Index begin, Index n, float* out) {
    if (a.clip == Clip::value)
        clipped(t, a.clip_limit, begin, n, out);
    else if (a.scales != nullptr)
        scaled(t, a.scales + t.first_unit, begin, n, out);
    else
        each_vector(0, n, [&](Index i, int lanes) FASTNN_BODY {
            vstore(out + i, vload(t.grad + begin + i, lanes), lanes);
        });
    if (o.noise != 0.0f) add_noise(t, o, begin, n, out);
    if (o.decay != 0.0f || o.l1 != 0.0f) add_decay(t, o, begin, n, out);
}

FASTNN_INLINE bool unchanged(const UpdateArgs& a, const UpdateTensor& t, const UpdateOptions& o) {
    const bool clips =
        a.clip == Clip::value || (a.scales != nullptr && (t.units > 1 || a.scales[t.first_unit] != 1.0f));
    return !clips && o.noise == 0.0f && o.decay == 0.0f && o.l1 == 0.0f;
}

// n elements from `begin` on, with this gradient.
FASTNN_INLINE UpdateTensor part(UpdateTensor t, const float* grad, Index begin, Index n) {
    t.param += begin;
    t.grad = grad;
    if (t.slot0 != nullptr) t.slot0 += begin;
    if (t.slot1 != nullptr) t.slot1 += begin;
    if (t.slot2 != nullptr) t.slot2 += begin;
    t.n = n;
    return t;
}

}  // namespace

void update_apply(const UpdateArgs& a, int chunk, Scratch& scratch) {
    if (a.verdict != nullptr && a.verdict->refused) return;
    const UpdateTensor& t = a.tensors[tensor_of<&UpdateTensor::first_chunk>(a, chunk)];
    const UpdateOptions& o = a.options[t.group];
    const Index size = update_chunk(t.n);
    const Index begin = (chunk - t.first_chunk) * size;
    const Index end = least(begin + size, t.n);
    if (unchanged(a, t, o)) return run<F>(part(t, t.grad + begin, begin, end - begin), o);
    auto* buffer = reinterpret_cast<float*>(scratch.data);
    for (Index i = begin; i < end; i += kPrepared) {
        const Index n = least(kPrepared, end - i);
        prepare(a, t, o, i, n, buffer);
        run<F>(part(t, buffer, i, n), o);
    }
}

}  // namespace fastnn::FASTNN_NS
