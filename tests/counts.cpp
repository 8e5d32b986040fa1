// A fixed list of calls of the AVX2 kernels, on one thread, for callgrind: tests/counts.py compiles it
// against the objects of a build, runs it and reads one dump a call. Nothing depends on the machine or the
// time.
#include <valgrind/callgrind.h>

#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <utility>
#include <vector>

#include "core/kernels.h"

namespace fastnn::avx2 {
extern const Kernels kTable;
}

namespace {

using namespace fastnn;

const Kernels& kernels = avx2::kTable;

// Numbers of [low, low + 2) where np.empty puts a large array: 16 bytes behind the border of a cache line.
class Floats {
 public:
    explicit Floats(Index n, float low = -1.0F) {
        const std::size_t bytes = (static_cast<std::size_t>(n) * sizeof(float) + 16 + 63) / 64 * 64;
        block_ = static_cast<float*>(std::aligned_alloc(64, bytes));
        std::uint32_t state = 1;
        for (Index i = 0; i < n; ++i) {
            state = state * 1664525U + 1013904223U;
            data()[i] = static_cast<float>(state >> 11) / 1048576.0F + low;
        }
    }
    ~Floats() { std::free(block_); }
    Floats(const Floats&) = delete;
    Floats& operator=(const Floats&) = delete;
    float* data() const { return block_ + 4; }

 private:
    float* block_;
};

Scratch scratch() {
    static unsigned char* const memory =
        static_cast<unsigned char*>(std::aligned_alloc(4096, static_cast<std::size_t>(kScratchBytes)));
    return {memory};
}

template <class Args>
void run(const Kernel<Args>& kernel, const Args& args) {
    Scratch memory = scratch();
    const int chunks = kernel.chunks(args);
    for (int chunk = 0; chunk < chunks; ++chunk) kernel.run(args, chunk, memory);
}

template <class Args, std::size_t phases>
void run(const Kernel<Args> (&phase)[phases], const Args& args) {
    for (const Kernel<Args>& kernel : phase) run(kernel, args);
}

template <class Kernel, class Args>
void count(const char* name, const Kernel& kernel, const Args& args) {
    CALLGRIND_ZERO_STATS;
    run(kernel, args);
    CALLGRIND_DUMP_STATS_AT(name);
}

void gemm(const char* name, Index m, Index k, Index n, bool trans_a, bool trans_b, bool epilogue) {
    const Floats a(m * k), b(k * n), c(m * n), bias(n);
    GemmArgs g{};
    g.a = a.data();
    g.a_row = trans_a ? 1 : k;
    g.a_col = trans_a ? m : 1;
    g.b = b.data();
    g.b_row = trans_b ? 1 : n;
    g.b_col = trans_b ? k : 1;
    g.c = c.data();
    g.c_row = n;
    g.bias = epilogue ? bias.data() : nullptr;
    g.m = m;
    g.n = n;
    g.k = g.k_end = k;
    g.alpha = 1.0F;
    g.activation = epilogue ? Activation::relu : Activation::none;
    count(name, kernels.gemm, g);
}

void column_sum(const char* name, Index rows, Index cols) {
    const Floats x(rows * cols), out(cols), partials(column_partials(rows, cols));
    ColumnSumArgs s{};
    s.x = x.data();
    s.x_row = cols;
    s.rows = rows;
    s.cols = cols;
    s.out = out.data();
    s.partials = partials.data();
    count(name, kernels.column_sum, s);
}

void batch_norm(const char* forward, const char* backward, Index rows, Index cols, Activation kind) {
    const Floats x(rows * cols), dy(rows * cols), y(rows * cols), dx(rows * cols);
    const Floats gamma(cols), beta(cols), mean(cols), rstd(cols), running_mean(cols), running_var(cols, 0.5F);
    const Floats dgamma(cols), dbeta(cols), sums(2 * cols), partials(3 * column_partials(rows, cols));
    BatchNormArgs f{};
    f.x = x.data();
    f.y = y.data();
    f.x_row = f.y_row = cols;
    f.rows = rows;
    f.cols = cols;
    f.gamma = gamma.data();
    f.beta = beta.data();
    f.mean = mean.data();
    f.rstd = rstd.data();
    f.running_mean = running_mean.data();
    f.running_var = running_var.data();
    f.partials = partials.data();
    f.momentum = 0.1F;
    f.eps = 1e-5F;
    f.training = true;
    f.activation = kind;
    count(forward, kernels.batch_norm, f);
    BatchNormBackwardArgs b{};
    b.dy = dy.data();
    b.x = x.data();
    b.y = y.data();
    b.dx = dx.data();
    b.dy_row = b.x_row = b.y_row = b.dx_row = cols;
    b.rows = rows;
    b.cols = cols;
    b.gamma = gamma.data();
    b.mean = mean.data();
    b.rstd = rstd.data();
    b.dgamma = dgamma.data();
    b.dbeta = dbeta.data();
    b.sums = sums.data();
    b.partials = partials.data();
    b.activation = kind;
    count(backward, kernels.batch_norm_backward, b);
}

void activation(const char* forward, const char* backward, Index n, Activation kind) {
    const Floats x(n), y(n), dy(n), dx(n);
    ActivationArgs f{};
    f.x = x.data();
    f.y = y.data();
    f.n = n;
    f.kind = kind;
    f.alpha = default_alpha(kind);
    count(forward, kernels.activation, f);
    ActivationBackwardArgs b{};
    b.dy = dy.data();
    b.x = x.data();
    b.y = y.data();
    b.dx = dx.data();
    b.n = n;
    b.kind = kind;
    b.alpha = f.alpha;
    count(backward, kernels.activation_backward, b);
}

void dropout(const char* name, Index n) {
    const Floats x(n), y(n);
    const std::uint64_t step = 0;
    DropoutArgs d{};
    d.step = &step;
    d.x = x.data();
    d.y = y.data();
    d.n = n;
    d.seed = 1;
    d.scale = 2.0F;
    count(name, kernels.dropout, d);
}

void softmax(const char* name, Index rows, Index cols) {
    const Floats logits(rows * cols), dlogits(rows * cols);
    std::vector<std::int64_t> labels(static_cast<std::size_t>(rows));
    for (Index i = 0; i < rows; ++i) labels[static_cast<std::size_t>(i)] = i % cols;
    std::vector<double> row_loss(labels.size());
    SoftmaxArgs s{};
    s.logits = logits.data();
    s.logits_row = s.probabilities_row = cols;
    s.labels = labels.data();
    s.dlogits = dlogits.data();
    s.row_loss = row_loss.data();
    s.rows = rows;
    s.cols = cols;
    s.scale = 1.0F / static_cast<float>(rows);
    s.keep = 1.0F;
    count(name, kernels.softmax_cross_entropy, s);
}

void point_loss(const char* name, Index rows, Index cols, PointLoss kind) {
    const Floats pred(rows * cols), target(rows * cols), dpred(rows * cols);
    PointLossArgs p{};
    p.pred = pred.data();
    p.target = target.data();
    p.dpred = dpred.data();
    p.rows = rows;
    p.cols = cols;
    p.kind = kind;
    p.scale = 1.0F / static_cast<float>(rows * cols);
    p.delta = 1.0F;
    std::vector<double> sums(static_cast<std::size_t>(kernels.point_loss.chunks(p)));
    p.sums = sums.data();
    count(name, kernels.point_loss, p);
}

void update(const char* name, std::initializer_list<Index> sizes, Rule rule, const char* checked = nullptr) {
    Index all = 0;
    for (const Index n : sizes) all += n + 16;
    const Floats param(all), grad(all), slot0(all, 0.5F), slot1(all, 0.5F);
    std::vector<UpdateTensor> tensors;
    Index at = 0, chunks = 0;
    for (const Index n : sizes) {
        UpdateTensor t{};
        t.param = param.data() + at;
        t.grad = grad.data() + at;
        t.slot0 = slot0.data() + at;
        t.slot1 = slot1.data() + at;
        t.n = t.cols = n;
        t.first_chunk = chunks;
        t.units = 1;
        tensors.push_back(t);
        at += (n + 15) / 16 * 16;
        chunks += update_chunks(n);
    }
    UpdateOptions o{};
    o.rule = rule;
    o.lr = 1e-3F;
    o.decay0 = 0.9F;
    o.decay1 = 0.999F;
    o.one_minus0 = rule == Rule::momentum ? 1.0F : 0.1F;
    o.one_minus1 = 0.001F;
    o.eps = 1e-8F;
    o.square_scale = o.keep = 1.0F;
    o.root_scale = 30.0F;
    UpdateArgs u{};
    u.tensors = tensors.data();
    u.count = static_cast<Index>(tensors.size());
    u.chunks = chunks;
    u.options = &o;
    count(name, kernels.update, u);
    if (checked == nullptr) return;
    // As an optimizer's step does it: the gradients are looked at before anything changes.
    std::vector<double> sums(static_cast<std::size_t>(chunks));
    UpdateVerdict verdict{.refused = false, .arrived = 0, .non_finite = -1};
    u.refuse_non_finite = true;
    u.sums = sums.data();
    u.verdict = &verdict;
    count(checked, kernels.update, u);
}

}  // namespace

int main() {
    gemm("gemm 8x8x8", 8, 8, 8, false, false, false);
    gemm("gemm 128x128x128", 128, 128, 128, false, false, false);
    gemm("gemm 128x784x256 + bias + relu", 128, 784, 256, false, false, true);
    gemm("gemm 784x128x256, a transposed", 784, 128, 256, true, false, false);
    gemm("gemm 128x128x256, b transposed", 128, 128, 256, false, true, false);
    gemm("gemm 128x128x10", 128, 128, 10, false, false, false);
    gemm("gemm 1x784x128", 1, 784, 128, false, false, false);
    column_sum("column sum (128, 256)", 128, 256);
    batch_norm("batch-norm forward (128, 512)", "batch-norm backward (128, 512)", 128, 512, Activation::none);
    batch_norm("batch-norm + relu forward (512, 128)", "batch-norm + relu backward (512, 128)", 512, 128,
               Activation::relu);
    activation("relu forward", "relu backward", 50'000, Activation::relu);
    activation("tanh forward", "tanh backward", 50'000, Activation::tanh);
    activation("gelu forward", "gelu backward", 50'000, Activation::gelu);
    dropout("dropout", 50'000);
    softmax("softmax cross-entropy (512, 10)", 512, 10);
    softmax("softmax cross-entropy (64, 1000)", 64, 1000);
    point_loss("mse (128, 256)", 128, 256, PointLoss::squared);
    point_loss("sigmoid cross-entropy (128, 256)", 128, 256, PointLoss::logistic);
    for (const auto& [name, rule] : {std::pair{"sgd", Rule::sgd},
                                     {"momentum", Rule::momentum},
                                     {"rmsprop", Rule::rmsprop},
                                     {"adagrad", Rule::adagrad},
                                     {"adam", Rule::adam}})
        update(name, {50'000, 256, 10}, rule, rule == Rule::sgd ? "sgd, gradients checked" : nullptr);
    return 0;
}
