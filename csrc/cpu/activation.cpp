// y = f(x) and dx = dy * f'(x), element by element: each formula of core/activations.h in one loop.
#include "core/activations.h"
#include "cpu/activate.h"
#include "cpu/entries.h"
#include "cpu/index.h"
#include "cpu/math.h"
#include "cpu/stream.h"

namespace fastnn::FASTNN_NS {
namespace {

// Rows of contiguous floats, `row` apart.
struct Operand {
    const float* data;
    Index row;
};

// out = formula(in...) for `count` vectors, kVecs at a time; one that is left of pairs twice. A function of
// its own for each formula: inlined into the switch below they shared its registers, and gcc 12 kept half of
// the constants on the stack.
template <int kVecs, class F, class... Operands>
[[gnu::noinline]] void each_group(Index count, float* out, Index out_step, F formula, Operands... in) {
    for (; count > 0; count -= kVecs) {
        const Index next = kVecs > 2 || count > 1 ? 1 : 0;
        vstore_each<kVecs>(out, next * out_step,
                           lanewise(formula, vload_each<kVecs>(in.data, next * in.row)...));
        out += kVecs * out_step;
        ((in.data += kVecs * in.row), ...);
    }
}

// The same, four registers at a time as far as it goes: a chain waits for itself less.
template <class F, class... Operands>
FASTNN_INLINE void over_vectors(Index count, float* out, Index out_step, F formula, Operands... in) {
    Index fours = 0;
    if constexpr (kRegs == 1) {
        fours = count / 4 * 4;
        if (fours > 0) each_group<4>(fours, out, out_step, formula, in...);
    }
    if (fours < count)
        each_group<2>(count - fours, out + fours * out_step, out_step, formula,
                      Operand{in.data + fours * in.row, in.row}...);
}

// out = formula(in...) on a tile. The columns left over go through memory to the same loop: beside a copy of
// it with masks gcc makes one of the two, which asks for the number of lanes at each step.
template <class F, class... Operands>
FASTNN_INLINE void over_tile(Index rows, Index cols, float* out, Index out_row, F formula, Operands... in) {
    const Index whole = cols / kLanes * kLanes;
    const int rest = static_cast<int>(cols - whole);
    if (whole >= 4 * kLanes || rows == 1) {
        for (Index r = 0; r < rows; ++r)
            over_vectors(whole / kLanes, out + r * out_row, kLanes, formula,
                         Operand{in.data + r * in.row, kLanes}...);
    } else {
        for (Index j = 0; j < whole; j += kLanes)
            over_vectors(rows, out + j, out_row, formula, Operand{in.data + j, in.row}...);
    }
    if (rest == 0) return;
    constexpr Index kRows = 8;
    alignas(64) float results[kRows * kLanes];
    alignas(64) float operands[sizeof...(in)][kRows * kLanes];
    for (Index first = 0; first < rows; first += kRows) {
        const Index count = least(rows - first, kRows);
        int k = 0;
        const auto gather = [&](const Operand& operand) FASTNN_BODY {
            float* const to = operands[k++];
            for (Index r = 0; r < count; ++r)
                vstore(to + r * kLanes, vload(operand.data + (first + r) * operand.row + whole, rest));
            return Operand{to, kLanes};
        };
        over_vectors(count, results, kLanes, formula, gather(in)...);
        for (Index r = 0; r < count; ++r)
            vstore(out + (first + r) * out_row + whole, vload(results + r * kLanes), rest);
    }
}

template <class F>
FASTNN_INLINE void forward(const ActivationTile& t, F formula) {
    over_tile(t.rows, t.cols, t.y, t.y_row, formula, Operand{t.x, t.x_row});
}

template <class F>
FASTNN_INLINE void backward(const GradientTile& t, F formula) {
    over_tile(t.rows, t.cols, t.dx, t.dx_row, formula, Operand{t.dy, t.dy_row}, Operand{t.from, t.from_row});
}

// Formulas of a few operations wait for memory, not for each other: one vector at a time (the gradient of
// ReLU takes 1.0 ns for sixteen floats in L1, in pairs 1.4).
template <class F>
FASTNN_INLINE void each_vec(Index rows, Index cols, F f) {
    for (Index r = 0; r < rows; ++r)
        each_vector(0, cols, [&](Index j, int lanes) FASTNN_BODY { f(r, j, lanes); });
}

// The tile is copied: stores through vector types may alias it, and its pointers would be read every time.
template <class F>
FASTNN_INLINE void light_forward(const ActivationTile& tile, F formula) {
    const ActivationTile t = tile;
    each_vec(t.rows, t.cols, [&](Index r, Index j, int lanes) FASTNN_BODY {
        vstore(t.y + r * t.y_row + j, lanewise(formula, vload(t.x + r * t.x_row + j, lanes)), lanes);
    });
}

template <class F>
FASTNN_INLINE void light_backward(const GradientTile& tile, F formula) {
    const GradientTile t = tile;
    each_vec(t.rows, t.cols, [&](Index r, Index j, int lanes) FASTNN_BODY {
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
            return light_forward(t, [](auto x) FASTNN_BODY { return relu(x); });
        case Activation::leaky_relu:
            return light_forward(
                t, [=](auto x) FASTNN_BODY { return leaky_relu(x, constant<decltype(x)>(alpha)); });
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
            return light_backward(t, [](auto dy, auto y) FASTNN_BODY { return relu_gradient(dy, y); });
        case Activation::leaky_relu:
            return light_backward(t, [=](auto dy, auto y) FASTNN_BODY {
                return leaky_relu_gradient(dy, y, constant<decltype(y)>(alpha));
            });
        case Activation::sigmoid:
            return light_backward(t, [](auto dy, auto y) FASTNN_BODY { return sigmoid_gradient(dy, y); });
        case Activation::tanh:
            return light_backward(t, [](auto dy, auto y) FASTNN_BODY { return tanh_gradient(dy, y); });
        case Activation::gelu:
            return backward(t, [](auto dy, auto x) FASTNN_BODY { return gelu_gradient(dy, x); });
        case Activation::gelu_tanh:
            return backward(t, [](auto dy, auto x) FASTNN_BODY { return gelu_tanh_gradient(dy, x); });
        case Activation::silu:
            return backward(t, [](auto dy, auto x) FASTNN_BODY { return silu_gradient(dy, x); });
        case Activation::elu:
            return light_backward(t, [=](auto dy, auto y) FASTNN_BODY {
                return elu_gradient(dy, y, constant<decltype(y)>(alpha));
            });
        case Activation::selu:
            return light_backward(t, [](auto dy, auto y) FASTNN_BODY { return selu_gradient(dy, y); });
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
