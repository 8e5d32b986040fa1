// The activations with their kind known to the compiler, and (behind a product or batch-norm) to the kernel's
// arguments alone.
#pragma once

#include "core/activations.h"
#include "core/types.h"

namespace fastnn {

template <Activation kKind>
FASTNN_RULE float activate(float x, float alpha) {
    if constexpr (kKind == Activation::relu) return relu(x);
    if constexpr (kKind == Activation::leaky_relu) return leaky_relu(x, alpha);
    if constexpr (kKind == Activation::sigmoid) return sigmoid(x);
    if constexpr (kKind == Activation::tanh) return tanh(x);
    if constexpr (kKind == Activation::gelu) return gelu<NormalGate>(x);
    if constexpr (kKind == Activation::gelu_tanh) return gelu<TanhGate>(x);
    if constexpr (kKind == Activation::silu) return silu(x);
    if constexpr (kKind == Activation::elu) return elu(x, alpha);
    if constexpr (kKind == Activation::selu) return selu(x);
    if constexpr (kKind == Activation::softplus) return softplus(x);
    return x;
}

// dy * f'(x), for the kinds of derivative_of_result from y = f(x).
template <Activation kKind>
FASTNN_RULE float activate_backward(float dy, float from, float alpha) {
    if constexpr (kKind == Activation::relu) return relu_gradient(dy, from);
    if constexpr (kKind == Activation::leaky_relu) return leaky_relu_gradient(dy, from, alpha);
    if constexpr (kKind == Activation::sigmoid) return sigmoid_gradient(dy, from);
    if constexpr (kKind == Activation::tanh) return tanh_gradient(dy, from);
    if constexpr (kKind == Activation::gelu) return gelu_gradient(dy, from);
    if constexpr (kKind == Activation::gelu_tanh) return gelu_tanh_gradient(dy, from);
    if constexpr (kKind == Activation::silu) return silu_gradient(dy, from);
    if constexpr (kKind == Activation::elu) return elu_gradient(dy, from, alpha);
    if constexpr (kKind == Activation::selu) return selu_gradient(dy, from);
    if constexpr (kKind == Activation::softplus) return softplus_gradient(dy, from);
    return dy;
}

// f(Kind<kind>{}): on the host to choose a kernel, in a kernel (all threads go the same way) to choose a
// formula.
template <Activation kKind>
struct Kind {
    static constexpr Activation value = kKind;
};
#define FASTNN_EACH_KIND(kind, CASE) \
    switch (kind) {                  \
        CASE(none)                   \
        CASE(relu)                   \
        CASE(leaky_relu)             \
        CASE(sigmoid)                \
        CASE(tanh)                   \
        CASE(gelu)                   \
        CASE(gelu_tanh)              \
        CASE(silu)                   \
        CASE(elu)                    \
        CASE(selu)                   \
        CASE(softplus)               \
    }

#define FASTNN_ACTIVATE(name) \
    case Activation::name:    \
        return activate<Activation::name>(x, default_alpha(Activation::name));
FASTNN_RULE float activate_any(Activation kind, float x) {
    FASTNN_EACH_KIND(kind, FASTNN_ACTIVATE)
    return x;
}
#undef FASTNN_ACTIVATE

}  // namespace fastnn
