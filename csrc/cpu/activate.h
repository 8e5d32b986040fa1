// The activations on a tile, for every kernel that ends or begins with one. They stand in one object
// (activation.cpp): compiled into each of their users they would be most of the build.
#pragma once

#include "cpu/simd.h"

namespace fastnn::FASTNN_FLOAT_NS {

// Rows of `cols` contiguous floats.
struct ActivationTile {
    const float* x;
    Index x_row;
    float* y;  // may be x
    Index y_row;
    Index rows, cols;
};

struct GradientTile {
    const float* dy;
    Index dy_row;
    const float* from;  // y for the kinds whose derivative is a function of it, else x
    Index from_row;
    float* dx;  // may be dy
    Index dx_row;
    Index rows, cols;
};

// y = f(x)
void activate(Activation kind, float alpha, const ActivationTile& t);

// dx = dy * f'(x), for the kinds of derivative_of_result from y = f(x)
void activate_backward(Activation kind, float alpha, const GradientTile& t);

}  // namespace fastnn::FASTNN_FLOAT_NS
