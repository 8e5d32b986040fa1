// y = f(x) and dx = dy * f'(x), element by element: each formula of core/activations.h in one loop.
#include "core/activations.h"
#include "cpu/activate.h"
#include "cpu/entries.h"
#include "cpu/math.h"
#include "cpu/stream.h"

namespace fastnn::FASTNN_NS {
namespace {

// f(row, column, lanes) for each Vec of a tile.
template <class Tile, class F>
FASTNN_INLINE void each_vec(const Tile& t, F f) {
    for (Index r = 0; r < t.rows; ++r) {
        Index j = 0;
        for (; j + kLanes <= t.cols; j += kLanes) f(r, j, kLanes);
        if (j < t.cols) f(r, j, static_cast<int>(t.cols - j));
    }
}

template <class F>
FASTNN_INLINE void forward(const ActivationTile& tile, F formula) {
    const ActivationTile t = tile;
    each_vec(t, [&](Index r, Index j, int lanes) FASTNN_BODY {
        vstore(t.y + r * t.y_row + j, lanewise(formula, vload(t.x + r * t.x_row + j, lanes)), lanes);
    });
}

template <class F>
FASTNN_INLINE void backward(const GradientTile& tile, F formula) {
    const GradientTile t = tile;
    each_vec(t, [&](Index r, Index j, int lanes) FASTNN_BODY {
        const Vec dy = vload(t.dy + r * t.dy_row + j, lanes);
        const Vec from = vload(t.from + r * t.from_row + j, lanes);
        vstore(t.dx + r * t.dx_row + j, lanewise(formula, dy, from), lanes);
    });
}

// dx from x for the kinds whose gradient is written with y: y is computed again.
void backward_of_input(Activation kind, float alpha, const GradientTile& t) {
    switch (kind) {
        case Activation::sigmoid:
            return backward(t, [](auto dy, auto x) FASTNN_BODY { return sigmoid_gradient(dy, sigmoid(x)); });
        case Activation::tanh:
            return backward(t, [](auto dy, auto x) FASTNN_BODY { return tanh_gradient(dy, tanh(x)); });
        case Activation::elu:
            return backward(t, [=](auto dy, auto x) FASTNN_BODY {
                return elu_gradient(dy, elu(x, constant<decltype(x)>(alpha)), constant<decltype(x)>(alpha));
            });
        case Activation::selu:
            return backward(t, [](auto dy, auto x) FASTNN_BODY { return selu_gradient(dy, selu(x)); });
        default:  // the sign of x says what the sign of y does
            return activate_backward(kind, alpha, t);
    }
}

// A chunk of n elements in two parts: up to the next 64-byte border of `out`, then the rest.
template <class F>
FASTNN_INLINE void each_part(const float* out, Index n, int chunk, F f) {
    const Index size = stream_chunk(n);
    const Index begin = chunk * size;
    const Index end = begin + size < n ? begin + size : n;
    const Index lead = until_aligned(out + begin, end - begin);
    if (lead > 0) f(begin, lead);
    if (begin + lead < end) f(begin + lead, end - begin - lead);
}

}  // namespace

FASTNN_FLAT void activate(Activation kind, float alpha, const ActivationTile& t) {
    switch (kind) {
        case Activation::none:
            return;
        case Activation::relu:
            return forward(t, [](auto x) FASTNN_BODY { return relu(x); });
        case Activation::leaky_relu:
            return forward(t,
                           [=](auto x) FASTNN_BODY { return leaky_relu(x, constant<decltype(x)>(alpha)); });
        case Activation::sigmoid:
            return forward(t, [](auto x) FASTNN_BODY { return sigmoid(x); });
        case Activation::tanh:
            return forward(t, [](auto x) FASTNN_BODY { return tanh(x); });
        case Activation::gelu:
            return forward(t, [](auto x) FASTNN_BODY { return gelu<NormalGate>(x); });
        case Activation::gelu_tanh:
            return forward(t, [](auto x) FASTNN_BODY { return gelu<TanhGate>(x); });
        case Activation::silu:
            return forward(t, [](auto x) FASTNN_BODY { return silu(x); });
        case Activation::elu:
            return forward(t, [=](auto x) FASTNN_BODY { return elu(x, constant<decltype(x)>(alpha)); });
        case Activation::selu:
            return forward(t, [](auto x) FASTNN_BODY { return selu(x); });
        case Activation::softplus:
            return forward(t, [](auto x) FASTNN_BODY { return softplus(x); });
    }
}

FASTNN_FLAT void activate_backward(Activation kind, float alpha, const GradientTile& t) {
    switch (kind) {
        case Activation::none:
            return;
        case Activation::relu:
            return backward(t, [](auto dy, auto y) FASTNN_BODY { return relu_gradient(dy, y); });
        case Activation::leaky_relu:
            return backward(t, [=](auto dy, auto y) FASTNN_BODY {
                return leaky_relu_gradient(dy, y, constant<decltype(y)>(alpha));
            });
        case Activation::sigmoid:
            return backward(t, [](auto dy, auto y) FASTNN_BODY { return sigmoid_gradient(dy, y); });
        case Activation::tanh:
            return backward(t, [](auto dy, auto y) FASTNN_BODY { return tanh_gradient(dy, y); });
        case Activation::gelu:
            return backward(t, [](auto dy, auto x) FASTNN_BODY { return gelu_gradient<NormalGate>(dy, x); });
        case Activation::gelu_tanh:
            return backward(t, [](auto dy, auto x) FASTNN_BODY { return gelu_gradient<TanhGate>(dy, x); });
        case Activation::silu:
            return backward(t, [](auto dy, auto x) FASTNN_BODY { return silu_gradient(dy, x); });
        case Activation::elu:
            return backward(t, [=](auto dy, auto y)
                                   FASTNN_BODY { return elu_gradient(dy, y, constant<decltype(y)>(alpha)); });
        case Activation::selu:
            return backward(t, [](auto dy, auto y) FASTNN_BODY { return selu_gradient(dy, y); });
        case Activation::softplus:
            return backward(t, [](auto dy, auto x) FASTNN_BODY { return softplus_gradient(dy, x); });
    }
}

int activation_chunks(const ActivationArgs& a) { return static_cast<int>(stream_chunks(a.n)); }
int activation_backward_chunks(const ActivationBackwardArgs& a) {
    return static_cast<int>(stream_chunks(a.n));
}

void activation(const ActivationArgs& a, int chunk, Scratch&) {
    each_part(a.y, a.n, chunk, [&](Index i, Index n) FASTNN_BODY {
        activate(a.kind, a.alpha, {.x = a.x + i, .x_row = 0, .y = a.y + i, .y_row = 0, .rows = 1, .cols = n});
    });
}

void activation_backward(const ActivationBackwardArgs& a, int chunk, Scratch&) {
    const bool from_result = a.y != nullptr && derivative_of_result(a.kind);
    const float* const from = from_result ? a.y : a.x;
    const auto run = from_result ? activate_backward : backward_of_input;
    each_part(a.dx, a.n, chunk, [&](Index i, Index n) FASTNN_BODY {
        run(a.kind, a.alpha,
            {.dy = a.dy + i,
             .dy_row = 0,
             .from = from + i,
             .from_row = 0,
             .dx = a.dx + i,
             .dx_row = 0,
             .rows = 1,
             .cols = n});
    });
}

}  // namespace fastnn::FASTNN_NS
