// Optimizer updates over a list of arrays in one launch: each rule of core/rules.h, four elements a thread.
// The table of arrays is copied to the device in front of the launch. Clipping and noise are not here yet.
#include "core/kernels.h"
#include "core/rules.h"
#include "cuda/entries.h"
#include "cuda/launch.h"
#include "cuda/transfers.h"

namespace fastnn {
namespace {

constexpr int kElements = 4 * kThreads;  // of a block of threads

// Thread blocks for each of the CPU's chunks, by whose numbers an array is found.
constexpr Index kBlocksPerChunk = stream_chunk(0) / kElements;
static_assert(stream_chunk(0) % kElements == 0);

// The tensor with the last first_chunk that is not beyond `chunk`.
FASTNN_RULE Index tensor_of(const UpdateTensor* tensors, Index count, Index chunk) {
    Index low = 0;
    Index high = count;
    while (high - low > 1) {
        const Index middle = (low + high) / 2;
        (tensors[middle].first_chunk <= chunk ? low : high) = middle;
    }
    return low;
}

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

// kSlots: bit i is set where the rule has slot i.
template <int kSlots, int W, class Rule>
FASTNN_RULE void apply(const UpdateTensor& t, const UpdateOptions& o, Index i, Rule rule) {
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
        UpdateState<float> s{param.v[l], grad.v[l], slot0.v[l], slot1.v[l], slot2.v[l]};
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

struct Table {
    const UpdateTensor* tensors;
    const UpdateOptions* options;
    Index count;
};

template <int kSlots, class Rule>
__global__ void __launch_bounds__(kThreads, 3) update(Table table, Rule rule) {
    const Index chunk = blockIdx.x / kBlocksPerChunk;
    const UpdateTensor t = table.tensors[tensor_of(table.tensors, table.count, chunk)];
    const UpdateOptions& o = table.options[t.group];
    const bool packs = aligned(t.param, t.grad, t.slot0, t.slot1, t.slot2, t.initial);
    const Index size = stream_chunk(t.n);
    const Index begin = (chunk - t.first_chunk) * size;
    const Index end = begin + size < t.n ? begin + size : t.n;
    // Once, but in arrays past 2^33 elements.
    for (Index i = begin + blockIdx.x % kBlocksPerChunk * kElements + threadIdx.x * 4; i < end;
         i += kBlocksPerChunk * kElements) {
        if (packs && i + 4 <= end)
            apply<kSlots, 4>(t, o, i, rule);
        else
            for (Index j = i; j < i + 4 && j < end; ++j) apply<kSlots, 1>(t, o, j, rule);
    }
}

#define FASTNN_FUNCTOR(Name, call)                                                                    \
    struct Name {                                                                                     \
        __device__ void operator()(UpdateState<float>& s, const UpdateCoefficients<float>& c) const { \
            call(s, c);                                                                               \
        }                                                                                             \
    };
FASTNN_FUNCTOR(Sgd, sgd_rule)
template <bool kVelocity, bool kNesterov>
FASTNN_FUNCTOR(Momentum, (momentum_rule<kVelocity, kNesterov>))
template <bool kCentered, bool kBuffered>
FASTNN_FUNCTOR(Rmsprop, (rmsprop_rule<kCentered, kBuffered>))
FASTNN_FUNCTOR(Adagrad, adagrad_rule) template <bool kAmsgrad>
FASTNN_FUNCTOR(Adam, adam_rule<kAmsgrad>)
FASTNN_FUNCTOR(Rprop, rprop_rule)
#undef FASTNN_FUNCTOR

    // The rule and its style, which all groups of an optimizer share.
    template <class Run>
    void with_rule(const UpdateOptions& o, Run run) {
    switch (o.rule) {
        case Rule::sgd:
            return run.template operator()<0>(Sgd{});
        case Rule::momentum:
            if (o.style == MomentumStyle::buffer)
                return o.nesterov ? run.template operator()<1>(Momentum<false, true>{})
                                  : run.template operator()<1>(Momentum<false, false>{});
            return o.nesterov ? run.template operator()<1>(Momentum<true, true>{})
                              : run.template operator()<1>(Momentum<true, false>{});
        case Rule::rmsprop:
            if (o.centered)
                return o.buffered ? run.template operator()<7>(Rmsprop<true, true>{})
                                  : run.template operator()<3>(Rmsprop<true, false>{});
            return o.buffered ? run.template operator()<5>(Rmsprop<false, true>{})
                              : run.template operator()<1>(Rmsprop<false, false>{});
        case Rule::adagrad:
            return run.template operator()<1>(Adagrad{});
        case Rule::adam:
            return o.amsgrad ? run.template operator()<7>(Adam<true>{})
                             : run.template operator()<3>(Adam<false>{});
        case Rule::rprop:
            return run.template operator()<3>(Rprop{});
    }
}

}  // namespace

// The table (tensors and options) is read here; the arrays that it names lie on the device.
int cuda_update(const UpdateArgs& a, void* stream, const CudaWorkspace& workspace) {
    if (a.chunks == 0) return 0;
    Index groups = 0;
    for (Index i = 0; i < a.count; ++i)
        groups = a.tensors[i].group >= groups ? a.tensors[i].group + 1 : groups;
    bool unknown = a.clip != Clip::none || a.sums != nullptr;
    for (Index i = 0; i < groups; ++i) unknown = unknown || a.options[i].noise != 0.0f;
    const Index tensor_bytes = a.count * static_cast<Index>(sizeof(UpdateTensor));
    const Index option_bytes = groups * static_cast<Index>(sizeof(UpdateOptions));
    if (unknown) return static_cast<int>(cudaErrorNotSupported);
    if (workspace.bytes < tensor_bytes + option_bytes) return static_cast<int>(cudaErrorInvalidValue);

    auto* const tensors = static_cast<unsigned char*>(workspace.data);
    auto* const options = tensors + tensor_bytes;
    const auto s = static_cast<cudaStream_t>(stream);
    cudaError_t status = copy_to_device(tensors, a.tensors, static_cast<std::size_t>(tensor_bytes), s);
    if (status == cudaSuccess)
        status = copy_to_device(options, a.options, static_cast<std::size_t>(option_bytes), s);
    if (status != cudaSuccess) return static_cast<int>(status);
    const Table table{reinterpret_cast<const UpdateTensor*>(tensors),
                      reinterpret_cast<const UpdateOptions*>(options), a.count};
    with_rule(a.options[0], [&]<int kSlots>(auto rule) {
        FASTNN_LAUNCH((update<kSlots, decltype(rule)>), static_cast<unsigned>(a.chunks * kBlocksPerChunk),
                      kThreads, stream, table, rule);
    });
    return launched();
}

}  // namespace fastnn
