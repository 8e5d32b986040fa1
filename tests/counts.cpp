// A fixed list of calls of the AVX2 kernels, on one thread, for callgrind: tests/counts.py compiles it
// against the objects of a build, runs it and reads one dump a call. Nothing depends on the machine or the
// time.
#include "counts.h"

#include <initializer_list>
#include <vector>

namespace {

using namespace fastnn;

// c = a b with rows side by side, or a transposed operand that lies the other way.
GemmArgs product(Index m, Index k, Index n, bool trans_a, bool trans_b) {
    GemmArgs g{};
    g.a_row = trans_a ? 1 : k;
    g.a_col = trans_a ? m : 1;
    g.b_row = trans_b ? 1 : n;
    g.b_col = trans_b ? k : 1;
    g.c_row = n;
    g.m = m;
    g.n = n;
    g.k = g.k_end = k;
    g.alpha = 1.0F;
    return g;
}

void gemm(const char* name, Index m, Index k, Index n, bool trans_a, bool trans_b, bool epilogue) {
    const Floats a(m * k), b(k * n), c(m * n), bias(n);
    GemmArgs g = product(m, k, n, trans_a, trans_b);
    g.a = a.data();
    g.b = b.data();
    g.c = c.data();
    g.bias = epilogue ? bias.data() : nullptr;
    g.activation = epilogue ? Activation::relu : Activation::none;
    count(name, kernels.gemm, g);
}

void packed_gemm(const char* packing, const char* name, Index m, Index k, Index n) {
    const Floats a(m * k), b(k * n), c(m * n), packed(packed_floats(k, n));
    PackArgs p{};
    p.b = b.data();
    p.b_row = p.n = n;
    p.b_col = 1;
    p.k = k;
    p.y = packed.data();
    count(packing, kernels.pack_b, p);
    GemmArgs g = product(m, k, n, false, false);
    g.a = a.data();
    g.b = packed.data();
    g.b_packed = true;
    g.c = c.data();
    count(name, kernels.gemm, g);
}

// Of numbers whose bits are any; the products may be anything, too.
void gemm_bf16(const char* name, Index m, Index k, Index n, bool trans_a, bool trans_b, bool narrow) {
    const Floats a(m * k / 2), b(k * n / 2), c(m * n);
    GemmBf16Args args{};
    args.g = product(m, k, n, trans_a, trans_b);
    args.a = reinterpret_cast<const BFloat16*>(a.data());
    args.b = reinterpret_cast<const BFloat16*>(b.data());
    if (narrow)
        args.c = reinterpret_cast<BFloat16*>(c.data());
    else
        args.g.c = c.data();
    count(name, kernels.gemm_bf16, args);
}

void round_bf16(const char* name, Index rows, Index cols) {
    const Floats x(rows * cols), y(rows * cols);
    RoundArgs r{};
    r.x = x.data();
    r.x_row = r.cols = cols;
    r.rows = rows;
    r.y = y.data();
    count(name, kernels.round_bf16, r);
}

// Every third row of a data set of 3 * rows, and the next batch fetched as a fit does it.
void gather(const char* name, Index rows, Index cols, Number number) {
    const Floats data(3 * rows * cols), y(rows * cols);  // room for numbers of up to four bytes
    std::vector<std::int64_t> order;
    for (Index i = 0; i < 2 * rows; ++i) order.push_back(3 * i % (3 * rows));
    RowSource source{};
    source.data = data.data();
    source.row = cols;
    source.number = number;
    source.order.rows = order.data();
    source.order.next = order.data() + rows;
    source.order.next_rows = rows;
    GatherArgs g{};
    g.source = &source;
    g.rows = rows;
    g.cols = cols;
    g.y = y.data();
    count(name, kernels.gather, g);
}

void add(const char* name, Index n) {
    const Floats a(n), b(n), y(n);
    AddArgs s{};
    s.a = a.data();
    s.b = b.data();
    s.y = y.data();
    s.n = n;
    count(name, kernels.add, s);
}

void scaling(const char* moments, const char* scaled, Index rows, Index cols) {
    const Floats x(rows * cols), y(rows * cols), scale(cols), offset(cols);
    std::vector<double> mean(static_cast<std::size_t>(cols)), squares(mean.size());
    std::vector<double> partials(static_cast<std::size_t>(2 * column_partials(rows, cols)));
    ColumnMomentsArgs m{};
    m.x = x.data();
    m.x_row = cols;
    m.rows = rows;
    m.cols = cols;
    m.mean = mean.data();
    m.squares = squares.data();
    m.partials = partials.data();
    count(moments, kernels.column_moments, m);
    ScaleColumnsArgs s{};
    s.x = x.data();
    s.y = y.data();
    s.x_row = s.y_row = cols;
    s.rows = rows;
    s.cols = cols;
    s.shift = mean.data();
    s.scale = scale.data();
    s.offset = offset.data();
    count(scaled, kernels.scale_columns, s);
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

void softmax(const char* ids, const char* probabilities, Index rows, Index cols) {
    const Floats logits(rows * cols), dlogits(rows * cols), targets(rows * cols, 0.0F);
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
    count(ids, kernels.softmax_cross_entropy, s);
    s.labels = nullptr;
    s.probabilities = targets.data();
    count(probabilities, kernels.softmax_cross_entropy, s);
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

// Names of a call, and where they are given of one that looks at the gradients before anything changes, as an
// optimizer's step does it, and of one that clips them by their norm and adds a decay of the parameters.
struct UpdateNames {
    const char *plain, *checked, *clipped;
};

void update(const UpdateNames& names, std::initializer_list<Index> sizes, Rule rule, float keep = 1.0F) {
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
    o.square_scale = 1.0F;
    o.keep = keep;
    o.root_scale = 30.0F;
    UpdateArgs u{};
    u.tensors = tensors.data();
    u.count = static_cast<Index>(tensors.size());
    u.chunks = chunks;
    u.options = &o;
    count(names.plain, kernels.update, u);
    std::vector<double> sums(static_cast<std::size_t>(chunks));
    std::vector<float> scales(tensors.size());
    UpdateVerdict verdict{.refused = false, .arrived = 0, .non_finite = -1};
    u.refuse_non_finite = true;
    u.sums = sums.data();
    u.verdict = &verdict;
    if (names.checked != nullptr) count(names.checked, kernels.update, u);
    if (names.clipped == nullptr) return;
    u.clip = Clip::global_norm;
    u.clip_limit = 1.0F;
    u.scales = scales.data();
    o.decay = 1e-4F;
    count(names.clipped, kernels.update, u);
}

}  // namespace

int main() {
    gemm("gemm 8x8x8", 8, 8, 8, false, false, false);
    gemm("gemm 128x128x128", 128, 128, 128, false, false, false);
    gemm("gemm 128x784x256 + bias + relu", 128, 784, 256, false, false, true);
    gemm("gemm 784x128x256, a transposed", 784, 128, 256, true, false, false);
    gemm("gemm 128x128x10, a transposed", 128, 128, 10, true, false, false);
    gemm("gemm 128x128x256, b transposed", 128, 128, 256, false, true, false);
    gemm("gemm 128x128x10", 128, 128, 10, false, false, false);
    gemm("gemm 1x784x128", 1, 784, 128, false, false, false);
    gemm("gemm 8x256x256", 8, 256, 256, false, false, false);
    packed_gemm("packing b of 256x256", "gemm 128x256x256, b packed", 128, 256, 256);
    gemm_bf16("gemm bf16 128x128x128", 128, 128, 128, false, false, false);
    gemm_bf16("gemm bf16 128x784x256, to bf16", 128, 784, 256, false, false, true);
    gemm_bf16("gemm bf16 256x128x128, a transposed", 256, 128, 128, true, false, false);
    gemm_bf16("gemm bf16 128x128x256, b transposed", 128, 128, 256, false, true, false);
    round_bf16("rounding to bf16 (128, 300)", 128, 300);
    gather("rows of float32 (128, 784)", 128, 784, Number::float32);
    gather("rows of uint8 (128, 784)", 128, 784, Number::uint8);
    scaling("column moments (256, 100)", "scaled columns (256, 100)", 256, 100);
    column_sum("column sum (128, 256)", 128, 256);
    batch_norm("batch-norm forward (128, 512)", "batch-norm backward (128, 512)", 128, 512, Activation::none);
    batch_norm("batch-norm + relu forward (512, 128)", "batch-norm + relu backward (512, 128)", 512, 128,
               Activation::relu);
    batch_norm("batch-norm + tanh forward (512, 64)", "batch-norm + tanh backward (512, 64)", 512, 64,
               Activation::tanh);
    activation("relu forward", "relu backward", 50'000, Activation::relu);
    activation("leaky relu forward", "leaky relu backward", 50'000, Activation::leaky_relu);
    activation("sigmoid forward", "sigmoid backward", 50'000, Activation::sigmoid);
    activation("tanh forward", "tanh backward", 50'000, Activation::tanh);
    activation("gelu forward", "gelu backward", 50'000, Activation::gelu);
    activation("gelu_tanh forward", "gelu_tanh backward", 50'000, Activation::gelu_tanh);
    activation("silu forward", "silu backward", 50'000, Activation::silu);
    activation("elu forward", "elu backward", 50'000, Activation::elu);
    activation("selu forward", "selu backward", 50'000, Activation::selu);
    activation("softplus forward", "softplus backward", 50'000, Activation::softplus);
    add("add", 50'000);
    dropout("dropout", 50'000);
    softmax("softmax cross-entropy (512, 10)", "softmax cross-entropy of probabilities (512, 10)", 512, 10);
    softmax("softmax cross-entropy (64, 1000)", "softmax cross-entropy of probabilities (64, 1000)", 64,
            1000);
    point_loss("mse (128, 256)", 128, 256, PointLoss::squared);
    point_loss("huber (128, 256)", 128, 256, PointLoss::huber);
    point_loss("sigmoid cross-entropy (128, 256)", 128, 256, PointLoss::logistic);
    const std::initializer_list<Index> sizes = {50'000, 256, 10};
    update({"sgd", "sgd, gradients checked", "sgd, clipped by the norm, with decay"}, sizes, Rule::sgd);
    update({"momentum"}, sizes, Rule::momentum);
    update({"rmsprop"}, sizes, Rule::rmsprop);
    update({"adagrad"}, sizes, Rule::adagrad);
    update({"adam"}, sizes, Rule::adam);
    update({"adamw", "adamw, gradients checked"}, sizes, Rule::adam, 0.99999F);
    update({"rprop"}, sizes, Rule::rprop);
    return 0;
}
