// y = f(x) and dx = dy * f'(x), element by element: four a thread, each kind a kernel of its own.
#include "cuda/activate.h"
#include "cuda/entries.h"
#include "cuda/launch.h"

namespace fastnn {
namespace {

template <Activation kKind>
__global__ void __launch_bounds__(kThreads) forward(ActivationArgs a, bool packs) {
    map_four(
        packs, four_of_thread(), a.n, a.y, [&](Index, float x) { return activate<kKind>(x, a.alpha); }, a.x);
}

// kFromX: y, of which the derivative is a function, is computed again.
template <Activation kKind, bool kFromX>
__global__ void __launch_bounds__(kThreads)
    backward(ActivationBackwardArgs a, const float* from, bool packs) {
    map_four(
        packs, four_of_thread(), a.n, a.dx,
        [&](Index, float dy, float x) {
            const float y = kFromX ? activate<kKind>(x, a.alpha) : x;
            return activate_backward<kKind>(dy, y, a.alpha);
        },
        a.dy, from);
}

}  // namespace

int cuda_activation(const ActivationArgs& a, void* stream) {
    if (a.n == 0) return 0;
    const unsigned blocks = blocks_for(a.n, 4 * kThreads);
    const bool packs = aligned(a.x, a.y);
#define FASTNN_CASE(name)                                                             \
    case Activation::name:                                                            \
        FASTNN_LAUNCH(forward<Activation::name>, blocks, kThreads, stream, a, packs); \
        break;
    FASTNN_EACH_KIND(a.kind, FASTNN_CASE)
#undef FASTNN_CASE
    return launched();
}

int cuda_activation_backward(const ActivationBackwardArgs& a, void* stream) {
    if (a.n == 0) return 0;
    const unsigned blocks = blocks_for(a.n, 4 * kThreads);
    const bool of_result = derivative_of_result(a.kind);
    const bool from_y = of_result && a.y != nullptr;
    const float* const from = from_y ? a.y : a.x;
    const bool packs = aligned(a.dy, from, a.dx);
    if (of_result && !from_y) {
#define FASTNN_CASE(name)                                                                           \
    case Activation::name:                                                                          \
        FASTNN_LAUNCH((backward<Activation::name, derivative_of_result(Activation::name)>), blocks, \
                      kThreads, stream, a, from, packs);                                            \
        break;
        FASTNN_EACH_KIND(a.kind, FASTNN_CASE)
#undef FASTNN_CASE
    } else {
#define FASTNN_CASE(name)                                                                             \
    case Activation::name:                                                                            \
        FASTNN_LAUNCH((backward<Activation::name, false>), blocks, kThreads, stream, a, from, packs); \
        break;
        FASTNN_EACH_KIND(a.kind, FASTNN_CASE)
#undef FASTNN_CASE
    }
    return launched();
}

}  // namespace fastnn
