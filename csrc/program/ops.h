// The operations that layers become. Sizes with `rows` count per row of the batch: a layer on (n, t, columns)
// has rows = t.
#pragma once

#include "program/op.h"

namespace fastnn::program {

// y = rows of a data set
class Gather final : public OpOf<GatherArgs> {
 public:
    Ref y;
    Index size;
    RowSource source;  // set before each run

    const char* name() const override { return "gather"; }
    Kind kind() const override { return Kind::by_rows; }
    std::vector<Ref> touches() const override { return {y}; }
    void prepare(Place& place) override;

 private:
    void move(GatherArgs& args, Ref buffer, Index floats) override { move_if(buffer == y, args.y, floats); }
};

// y = the weight, rounded to bfloat16
class RoundWeight final : public OpOf<RoundArgs> {
 public:
    Ref y;
    Index in, out;
    const float* weight;

    const char* name() const override { return "round_weight"; }
    Kind kind() const override { return Kind::first; }
    std::vector<Ref> touches() const override { return {y}; }
    void prepare(Place& place) override;
};

// y = the weight, or its transpose, as products of blocks of rows go through it
class PackWeight final : public OpOf<PackArgs> {
 public:
    Ref y;
    Index in, out;
    const float* weight;
    bool transposed;

    const char* name() const override { return "pack_weight"; }
    Kind kind() const override { return Kind::first; }
    std::vector<Ref> touches() const override { return {}; }
    Ref panels() const override { return y; }
    void prepare(Place& place) override;
};

// y = x, `size` floats a row of the batch, rounded to bfloat16
class Round final : public OpOf<RoundArgs> {
 public:
    Ref x, y;
    Index size;

    const char* name() const override { return "round"; }
    Kind kind() const override { return Kind::by_rows; }
    std::vector<Ref> touches() const override { return {x, y}; }
    void prepare(Place& place) override;

 private:
    void move(RoundArgs& args, Ref buffer, Index floats) override { move_if(buffer == x, args.x, floats); }
};

class BatchNorm;
class BatchNormBackward;

// y = activation(x @ weight + bias). Here and in the two gradients below: where `rounded` is a buffer it
// holds the rounded weight, and the batch is rounded too. Where `packed` is one it holds the packed weight,
// for blocks of rows. Where `narrow` is one, on a device alone, it holds the result rounded (fuse.h); there
// the product forms the column sums of the batch-norm behind it, too (`norm`).
class Linear final : public OpOf<GemmBf16Args> {
 public:
    Ref x, y;
    Index rows, in, out;
    const float* weight;
    Ref rounded, packed;
    const float* bias;
    Activation activation;
    Ref narrow = kNone;
    const BatchNorm* norm = nullptr;

    const char* name() const override { return "linear"; }
    Kind kind() const override { return Kind::by_rows; }
    std::vector<Ref> touches() const override;
    Index scratch(Index n) const override;
    Index counts(Index n) const override;
    Ref panels() const override { return packed; }
    void prepare(Place& place) override;

 private:
    void move(GemmBf16Args& args, Ref buffer, Index floats) override {
        move_if(buffer == x, args.g.a, floats);
        move_if(buffer == y, args.g.c, floats);
    }
};

// dweight = x' dy; beside it, on a device alone, dbias = column sums of bias_dy (fuse.h)
class LinearWeight final : public OpOf<GemmBf16Args> {
 public:
    Ref dy, x;
    Index rows, in, out;
    float* dweight;
    bool rounded;
    Ref bias_dy = kNone;
    float* dbias = nullptr;

    const char* name() const override { return "linear_weight"; }
    Kind kind() const override { return Kind::last; }
    std::vector<Ref> touches() const override { return {dy, x, bias_dy}; }
    void prepare(Place& place) override;
};

// dbias = column sums of dy
class LinearBias final : public OpOf<ColumnSumArgs> {
 public:
    Ref dy;
    Index rows, out;
    float* dbias;

    const char* name() const override { return "linear_bias"; }
    Kind kind() const override { return Kind::last; }
    std::vector<Ref> touches() const override { return {dy}; }
    Index scratch(Index n) const override { return column_partials(n * rows, out); }
    void prepare(Place& place) override;
};

// dx = dy weight', on a device alone times the slope of the activation in front (fuse.h), which is one of
// `from`: the activation's result, or its argument
class LinearInput final : public OpOf<GemmBf16Args> {
 public:
    Ref dy, dx;
    Index rows, in, out;
    const float* weight;
    Ref rounded, packed;
    Ref from = kNone;
    bool from_x = false;
    Activation behind = Activation::none;
    float alpha = 1.0f;
    Ref narrow = kNone;
    const BatchNormBackward* norm = nullptr;

    const char* name() const override { return "linear_input"; }
    Kind kind() const override { return Kind::by_rows; }
    std::vector<Ref> touches() const override;
    Index scratch(Index n) const override;
    Index counts(Index n) const override;
    Ref panels() const override { return packed; }
    void prepare(Place& place) override;
};

// y = f(x) over `size` floats a row of the batch
class Activate final : public OpOf<ActivationArgs> {
 public:
    Ref x, y;
    Index size;
    Activation activation;
    float alpha;

    const char* name() const override { return "activation"; }
    Kind kind() const override { return Kind::by_rows; }
    std::vector<Ref> touches() const override { return {x, y}; }
    void prepare(Place& place) override;

 private:
    void move(ActivationArgs& args, Ref buffer, Index floats) override {
        move_if(buffer == x, args.x, floats);
        move_if(buffer == y, args.y, floats);
    }
};

// dx = dy * f'(x); y = f(x) where it was kept; dx may be dy
class ActivateBackward final : public OpOf<ActivationBackwardArgs> {
 public:
    Ref dy, x, y, dx;
    Index size;
    Activation activation;
    float alpha;

    const char* name() const override { return "activation_backward"; }
    Kind kind() const override { return Kind::by_rows; }
    std::vector<Ref> touches() const override { return {dy, x, y, dx}; }
    void prepare(Place& place) override;
};

// Batch statistics go to `statistics`: means, and from column `padded(cols)` on reciprocal deviations.
class BatchNorm final : public OpOf<BatchNormArgs> {
 public:
    Ref x, y, statistics;
    Index rows, cols;
    const float *gamma, *beta;
    float *running_mean, *running_var;
    float* updates;  // null, or the number of batches so far, whose weights sum to 1 (debiased)
    double momentum;
    float eps;
    bool unbiased;  // the variance that is averaged
    bool training;  // else the running statistics are used and stay
    Activation activation;
    bool formed = false;  // the statistics, by the product in front

    static Index padded(Index cols) { return (cols + 15) / 16 * 16; }
    const char* name() const override { return "batch_norm"; }
    Kind kind() const override { return training ? Kind::whole : Kind::by_rows; }
    std::vector<Ref> touches() const override { return {x, y, statistics}; }
    Index partials(Index n) const { return 3 * column_partials(n * rows, cols); }
    Index scratch(Index n) const override { return training && !formed ? partials(n) : 0; }
    BatchNormArgs arguments(const Place& place) const;
    Index least_rows() const override { return training && rows == 1 ? 2 : 1; }  // one has no variance
    void prepare(Place& place) override;
    void forget() override;
    void before_run() override;
    void after_run() override;
    void cancelled() override;

 private:
    void move(BatchNormArgs& args, Ref buffer, Index floats) override {
        move_if(buffer == x, args.x, floats);
        move_if(buffer == y, args.y, floats);
    }
    // In evaluation mode each block of rows makes its own of the running ones.
    std::deque<std::vector<float>> running_;
    std::vector<float> old_;  // running mean and variance before this batch
};

class BatchNormBackward final : public OpOf<BatchNormBackwardArgs> {
 public:
    Ref dy, x, y, statistics, dx;
    Index rows, cols;
    const float* gamma;
    float *dgamma, *dbeta;
    Activation activation;
    Ref sums = kNone;  // where the product in front leaves what it has formed

    const char* name() const override { return "batch_norm_backward"; }
    Kind kind() const override { return Kind::whole; }
    std::vector<Ref> touches() const override { return {dy, x, y, statistics, dx, sums}; }
    Index partials(Index n) const { return 2 * column_partials(n * rows, cols); }
    Index scratch(Index n) const override {
        return sums == kNone ? 2 * BatchNorm::padded(cols) + partials(n) : 0;
    }
    BatchNormBackwardArgs arguments(const Place& place) const;
    void prepare(Place& place) override;
};

// y = x under the mask of (seed, step); `mask` holds all but the arrays, the step is set before each run:
// that of the model's dropout layer number `layer`.
class Dropout final : public OpOf<DropoutArgs> {
 public:
    Ref x, y;
    Index size;
    std::size_t layer;
    DropoutArgs mask;
    std::uint64_t step = 0;

    const char* name() const override { return "dropout"; }
    Kind kind() const override { return Kind::by_rows; }
    std::vector<Ref> touches() const override { return {x, y}; }
    void prepare(Place& place) override;
};

// y = (x - shift) * scale + offset by column; without shift and offset y = x * scale.
class ScaleColumns final : public OpOf<ScaleColumnsArgs> {
 public:
    Ref x, y;
    Index rows, cols;
    const float *shift, *scale, *offset;

    const char* name() const override { return "scale"; }
    Kind kind() const override { return Kind::by_rows; }
    std::vector<Ref> touches() const override { return {x, y}; }
    void prepare(Place& place) override;
    void before_run() override;
    Index scratch(Index) const override { return shift != nullptr ? 2 * cols : 0; }  // on a device alone

 private:
    void move(ScaleColumnsArgs& args, Ref buffer, Index floats) override {
        if (buffer == x) args.x = static_cast<const float*>(args.x) + floats;
        move_if(buffer == y, args.y, floats);
    }
    void prepare_on_device(Place& place);
    std::vector<double> shift_;
    std::vector<float> offset_;
};

// y = a + b over `size` floats a row of the batch; y may be a.
class Add final : public OpOf<AddArgs> {
 public:
    Ref a, b, y;
    Index size;

    const char* name() const override { return "add"; }
    Kind kind() const override { return Kind::by_rows; }
    std::vector<Ref> touches() const override { return {a, b, y}; }
    void prepare(Place& place) override;

 private:
    void move(AddArgs& args, Ref buffer, Index floats) override {
        move_if(buffer == a, args.a, floats);
        move_if(buffer == b, args.b, floats);
        move_if(buffer == y, args.y, floats);
    }
};

}  // namespace fastnn::program
