// Argument structs of the CPU kernels: plain pointers, strides and sizes, checked before they are filled.
// Strides and sizes count float elements, never bytes. A null pointer means "not given".
#pragma once

#include <cstdint>
#include <type_traits>

namespace fastnn {

using Index = std::int64_t;

// K is summed in blocks of exactly this many terms (fused multiply-adds in order from zero), and the
// blocks are added in order: the one constant that fixes the bits of every matrix product.
inline constexpr Index kBlockK = 512;

// Column statistics and column sums are formed over this many rows at a time, whatever the ISA.
inline constexpr Index kStatRows = 192;

enum class Activation : int {
    none,
    relu,
    leaky_relu,
    sigmoid,
    tanh,
    gelu,
    gelu_tanh,
    silu,
    elu,
    selu,
    softplus
};

// The slope of leaky_relu and the alpha of elu where the caller gives none, fused kernels included.
[[gnu::always_inline]] constexpr float default_alpha(Activation kind) {
    return kind == Activation::leaky_relu ? 0.01f : 1.0f;
}

// Whether the derivative can be had from y = f(x) alone, which is all that a fused backward pass has.
[[gnu::always_inline]] constexpr bool derivative_of_result(Activation kind) {
    return kind != Activation::gelu && kind != Activation::gelu_tanh && kind != Activation::silu &&
           kind != Activation::softplus;
}

enum class Rule : int { sgd, momentum, rmsprop, adagrad, adam, rprop };

enum class PointLoss : int { squared, huber, logistic };

enum class MomentumStyle : int { buffer, velocity };

// What bounds a gradient: each number; the norm of each array, of all arrays, or (adaptive) of what belongs
// to one output, beside that of its weights.
enum class Clip : int { none, value, norm, global_norm, adaptive };

// c = activation(alpha * a @ b + beta * c + bias), a (m,k), b (k,n), c (m,n) with contiguous columns.
struct GemmArgs {
    const float* a;
    Index a_row, a_col;
    const float* b;
    Index b_row, b_col;
    float* c;
    Index c_row;
    const float* bias;
    Index m, n, k;
    Index k_begin, k_end;  // the terms of this task: all of them, or whole blocks of a long sum
    float alpha, beta;
    Activation activation;
    bool b_packed;  // b is what `pack_b` of the same ISA wrote, all of it; its strides mean nothing
};

// y = b (k,n) as `gemm` goes through it, for products that share it: packed_floats(k, n) of them.
struct PackArgs {
    const float* b;
    Index b_row, b_col;
    Index k, n;
    float* y;
};
constexpr Index packed_floats(Index k, Index n) { return k * ((n + 63) / 64 * 64); }

// The upper half of a float32.
struct BFloat16 {
    std::uint16_t bits;
};

// The same of bfloat16 a and b, in float32 arithmetic. All but a and b is in `g`; if c is given, the result
// is rounded once and stands there in place of g.c, or on a device beside it where both are given.
struct GemmBf16Args {
    GemmArgs g;
    const BFloat16* a;
    const BFloat16* b;
    BFloat16* c;
};

// The product of float32 numbers that are rounded to TF32 (10 bits of fraction) as they are read; there is
// such a kernel on a device alone.
struct GemmTf32Args {
    GemmArgs g;
};

// y = x rounded to bfloat16, contiguous, as the ISA multiplies such numbers (Kernels::multiplies_bf16): as
// BFloat16, or as float32 with a lower half of zero.
struct RoundArgs {
    const float* x;
    Index x_row;
    Index rows, cols;
    void* y;
};

// What the numbers of a data set may be before they become a batch.
enum class Number : int { float32, float64, uint8, int8, int16, uint16, int32, uint32, int64, uint64 };

// What a batch takes of a data set: the rows `rows[0]`, `rows[1]` ..., or the first ones where that is null.
// The CPU fetches those of the batch after it, `next`, while this one is worked on.
struct RowOrder {
    const std::int64_t* rows;
    const std::int64_t* next;
    Index next_rows;
};

// A data set: rows of contiguous columns, `row` numbers apart.
struct RowSource {
    const void* data;
    Index row;
    Number number;
    RowOrder order;
};

// What a loss takes from a data set.
struct Targets {
    const void* labels;  // class ids of this kind, one a row and `label_stride` apart; null: values, which
    Number label_kind;   // are a RowSource of their own
    Index label_stride;
    const float* weight;  // one a row
    RowOrder order;
};

// y[i] = row order[first + i] of the source as float32; y is (rows, cols), contiguous.
struct GatherArgs {
    const RowSource* source;
    Index first, rows, cols;
    float* y;
    const bool* halted;  // on a device alone, where it is not null: nothing is read where it says so
};

// out[j] = (accumulate ? out[j] : 0) + sum_i x[i, j]; partials: column_partials(rows, cols) floats.
struct ColumnSumArgs {
    const float* x;
    Index x_row;
    Index rows, cols;
    float* out;
    float* partials;
    bool accumulate;
};

// What a data matrix holds before it becomes a network's input.
enum class Element : int { float32, float64, uint8 };

// mean[j] and squares[j] = sum_i (x[i, j] - mean[j])^2; partials: 2 * column_partials(rows, cols) doubles.
struct ColumnMomentsArgs {
    const void* x;
    Index x_row;
    Index rows, cols;
    Element element;
    double *mean, *squares;
    double* partials;
};

// y = (x - shift) * scale + offset by column; y may be x where that is float32.
struct ScaleColumnsArgs {
    const void* x;
    Index x_row;
    Element element;
    float* y;
    Index y_row;
    Index rows, cols;
    const double* shift;
    const float *scale, *offset;
};

// y = f(x) over n contiguous elements; y may be x.
struct ActivationArgs {
    const float* x;
    float* y;
    Index n;
    Activation kind;
    float alpha;
};

// dx = dy * f'(x) over n contiguous elements; dx may be dy. y = f(x), if given, saves computing it again.
struct ActivationBackwardArgs {
    const float* dy;
    const float* x;
    const float* y;
    float* dx;
    Index n;
    Activation kind;
    float alpha;
};

// y = a + b over n contiguous elements; y may be a or b.
struct AddArgs {
    const float *a, *b;
    float* y;
    Index n;
};

// y = x * scale for the elements that core/dropout.h keeps, else 0, over n contiguous elements; y may be x.
struct DropoutArgs {
    const float* x;
    float* y;
    Index n;
    Index first;  // the number of x[0] in what the mask belongs to
    std::uint64_t seed;
    const std::uint64_t* step;
    std::int32_t threshold;  // kept: bits >= threshold, as signed numbers
    bool drops_all;          // which no threshold says
    float scale;
};

// y = activation((x - mean) * rstd * gamma + beta). In training mean and rstd are computed from x and the
// running statistics (if given) move by `momentum` towards the batch; in evaluation they are read.
struct BatchNormArgs {
    const float* x;
    Index x_row;
    float* y;
    Index y_row;
    Index rows, cols;
    const float *gamma, *beta;
    float *mean, *rstd;
    float *running_mean, *running_var;
    float* partials;  // 3 * column_partials(rows, cols) floats; training only
    double momentum;
    float eps;
    bool training, biased;  // biased: the variance that is averaged divides by rows, else by rows - 1
    Activation activation;
    // On a device alone, where they are not null:
    const bool* frozen;  // the running statistics stay where it says so
    float* updates;      // the number of batches so far: running statistics are debiased
    bool formed;         // the statistics are there, by the product in front (cuda/product_statistics.h)
};

// With dy' = dy * activation'(y), which needs derivative_of_result and, but for ReLU, dx; xhat = (x - mean) *
// rstd: dbeta = sum dy', dgamma = sum dy' * xhat, dx = gamma * rstd * (dy' - dbeta / rows - xhat * dgamma /
// rows).
struct BatchNormBackwardArgs {
    const float* dy;
    Index dy_row;
    const float* x;
    Index x_row;
    const float* y;  // read only for an activation
    Index y_row;
    float* dx;
    Index dx_row;
    Index rows, cols;
    const float *gamma, *mean, *rstd;
    float *dgamma, *dbeta;
    float* sums;      // 2 * cols: dgamma and dbeta of this call, before accumulation
    float* partials;  // 2 * column_partials(rows, cols) floats
    bool accumulate;
    Activation activation;
    bool formed;  // on a device alone: sums, dgamma and dbeta are there, by the product in front
};

// Exactly one of labels and probabilities is given: t = keep * (onehot or probabilities) + share.
// row_loss[i] = -sum_c t_c log softmax(logits_i)_c, unweighted; with w_i = weight ? weight[i] : scale,
// dlogits_i = w_i * (softmax(logits_i) * sum_c t_c - t_i). Rows of kIgnoredLabel get zeros.
struct SoftmaxArgs {
    const float* logits;
    Index logits_row;
    const std::int64_t* labels;
    const float* probabilities;
    Index probabilities_row;
    const float* weight;  // they sum to 1
    float* dlogits;       // (rows, cols), contiguous
    double* row_loss;
    Index rows, cols;
    float scale;
    float keep, share;  // label smoothing s: 1 - s and s / cols
};

inline constexpr std::int64_t kIgnoredLabel = -1;

// l(pred, target) of every element and its derivative, times w_i = weight ? weight[i] : scale by row. All
// arrays are contiguous. sums: a number for each chunk, together sum l, or sum w l where weights are given.
struct PointLossArgs {
    const float *pred, *target;
    const float* weight;
    float* dpred;
    double* sums;
    Index rows, cols;
    PointLoss kind;
    float scale;
    float delta;  // huber
};

// One parameter array with its gradient and its optimizer slots (rules.h says which are read).
struct UpdateTensor {
    float* param;
    const float* grad;
    float *slot0, *slot1, *slot2;
    const float* initial;  // decay goes towards it; null: towards zero
    Index n;
    Index cols;              // the last dimension
    Index first_chunk;       // number of chunks in the tensors before this one
    Index first_unit;        // number of scales in the tensors before this one
    Index units;             // its scales: one, or (adaptive) one for each column
    Index first_unit_chunk;  // number of chunks of `update_units` before this tensor's
    std::uint64_t place;     // its number, for the noise
    int group;               // its options
};

// The coefficients of a rule for some of the tensors, formed in double and rounded once (rules.h says how
// they enter), and what is done to the gradient first.
struct UpdateOptions {
    Rule rule;
    MomentumStyle style;
    bool nesterov;
    bool centered, buffered;  // rmsprop
    bool amsgrad;
    bool decay_parameter;  // decay and l1 move the parameter; else they are added to the gradient
    float lr;              // adam: lr / (1 - beta1^t)
    float decay0;          // momentum: mu; rmsprop: rho; adam: beta1; rprop: eta-
    float decay1;          // adam: beta2; rmsprop: momentum; rprop: eta+
    float one_minus0;      // 1 - decay0; momentum: of the gradient; rprop: the smallest step
    float one_minus1;      // 1 - decay1; rprop: the largest step
    float eps, eps_inside;
    float square_scale;  // adam: 1, or 1 / (1 - beta2^t) where eps stands inside the root
    float root_scale;    // adam: 1 / sqrt(1 - beta2^t), or 1
    float keep;          // adam: the parameter is multiplied by it first
    float decay, l1;     // times lr where decay_parameter
    float noise;         // standard deviation
    std::uint64_t noise_seed, noise_step;
};

// What the pass over the gradients found.
struct UpdateVerdict {
    bool refused;      // nothing is updated
    unsigned arrived;  // of a device: its blocks of threads that have brought their sums
    Index non_finite;  // the first tensor whose gradient is not finite, or -1
};

struct UpdateArgs {
    const UpdateTensor* tensors;
    Index count;
    Index chunks;
    const UpdateOptions* options;
    Clip clip;
    float clip_limit;  // of a number or norm; adaptive: of norm / norm of the weights
    float clip_floor;  // adaptive: the least norm of weights
    bool refuse_non_finite;
    double* sums;            // the sum of squares of each chunk's gradient; null: nobody asks
    float* scales;           // factors of the gradient, `units` for each tensor; null: none
    Index unit_chunks;       // adaptive
    UpdateVerdict* verdict;  // null without sums
};

// Private memory of one thread: 64-byte aligned, kScratchBytes long, which is one huge page (pages.h).
struct Scratch {
    unsigned char* data;
};

inline constexpr std::int64_t kScratchBytes = 2 * 1024 * 1024;

// Arrays may hold more than 2^31 elements: no size, stride or offset of an argument struct has 32 bits (and
// -Wconversion lets none through in between).
template <class Member>
inline constexpr bool is_index = false;
template <class Args>
inline constexpr bool is_index<Index Args::*> = true;
template <class... Members>
constexpr bool are_indices(Members...) {
    return sizeof(Index) == 8 && (is_index<Members> && ...);
}
static_assert(are_indices(&GemmArgs::a_row, &GemmArgs::a_col, &GemmArgs::b_row, &GemmArgs::b_col,
                          &GemmArgs::c_row, &GemmArgs::m, &GemmArgs::n, &GemmArgs::k, &GemmArgs::k_begin,
                          &GemmArgs::k_end));
static_assert(are_indices(&PackArgs::b_row, &PackArgs::b_col, &PackArgs::k, &PackArgs::n));
static_assert(are_indices(&RoundArgs::x_row, &RoundArgs::rows, &RoundArgs::cols));
static_assert(are_indices(&ColumnSumArgs::x_row, &ColumnSumArgs::rows, &ColumnSumArgs::cols));
static_assert(are_indices(&ActivationArgs::n, &ActivationBackwardArgs::n, &AddArgs::n));
static_assert(are_indices(&DropoutArgs::n, &DropoutArgs::first));
static_assert(are_indices(&GatherArgs::first, &GatherArgs::rows, &GatherArgs::cols, &RowSource::row,
                          &RowOrder::next_rows, &Targets::label_stride));
static_assert(are_indices(&BatchNormArgs::x_row, &BatchNormArgs::y_row, &BatchNormArgs::rows,
                          &BatchNormArgs::cols));
static_assert(are_indices(&BatchNormBackwardArgs::dy_row, &BatchNormBackwardArgs::x_row,
                          &BatchNormBackwardArgs::y_row, &BatchNormBackwardArgs::dx_row,
                          &BatchNormBackwardArgs::rows, &BatchNormBackwardArgs::cols));
static_assert(are_indices(&SoftmaxArgs::logits_row, &SoftmaxArgs::probabilities_row, &SoftmaxArgs::rows,
                          &SoftmaxArgs::cols, &PointLossArgs::rows, &PointLossArgs::cols));
static_assert(are_indices(&ColumnMomentsArgs::x_row, &ColumnMomentsArgs::rows, &ColumnMomentsArgs::cols));
static_assert(are_indices(&ScaleColumnsArgs::x_row, &ScaleColumnsArgs::y_row, &ScaleColumnsArgs::rows,
                          &ScaleColumnsArgs::cols));
static_assert(are_indices(&UpdateTensor::n, &UpdateTensor::cols, &UpdateTensor::first_chunk,
                          &UpdateTensor::first_unit, &UpdateTensor::units, &UpdateTensor::first_unit_chunk));
static_assert(are_indices(&UpdateVerdict::non_finite, &UpdateArgs::count, &UpdateArgs::chunks,
                          &UpdateArgs::unit_chunks));

}  // namespace fastnn
