// y = f(x) and dx = dy * f'(x), element by element. NaN passes through; the derivative of ReLU at 0 is 0.
#include "cpu/entries.h"
#include "cpu/stream.h"

namespace fastnn::FASTNN_NS {
int activation_chunks(const ActivationArgs& a) { return static_cast<int>(stream_chunks(a.n)); }
int activation_backward_chunks(const ActivationBackwardArgs& a) {
    return static_cast<int>(stream_chunks(a.n));
}

FASTNN_FLAT void activation(const ActivationArgs& a, int chunk, Scratch&) {
    stream(a.y, a.n, chunk, [&](Index i, int lanes) FASTNN_BODY {
        vstore(a.y + i, max_(splat(0.0f), vload(a.x + i, lanes)), lanes);
    });
}

FASTNN_FLAT void activation_backward(const ActivationBackwardArgs& a, int chunk, Scratch&) {
    stream(a.dx, a.n, chunk, [&](Index i, int lanes) FASTNN_BODY {
        vstore(a.dx + i, keep_positive(vload(a.x + i, lanes), vload(a.dy + i, lanes)), lanes);
    });
}

}  // namespace fastnn::FASTNN_NS
