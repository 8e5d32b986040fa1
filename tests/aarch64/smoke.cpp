// Every kernel of the scalar table on a few shapes, without Python: prints a line "name hash" for each. The
// same program built for another architecture must print the same lines (tests/tiers/aarch64.sh): the bits of
// a result depend on the values only. Each hash is of teams of 1, 2 and 3 threads, which must agree.
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "core/dispatch.h"
#include "core/team.h"

namespace {

using namespace fastnn;
using Floats = std::vector<float>;

// Floats of [-1, 1): multiples of 2^-20, so the same on every machine; `at_least` shifts them.
class Random {
 public:
    Floats floats(Index n, float at_least = -1.0F) {
        Floats x(static_cast<std::size_t>(n));
        for (float& v : x) v = std::ldexp(static_cast<float>(next() >> 11), -20) + at_least;
        return x;
    }
    std::uint32_t next() { return state_ = state_ * 1664525U + 1013904223U; }

 private:
    std::uint32_t state_ = 1;
};

class Hash {  // FNV-1a; the sign and payload of a NaN say nothing
 public:
    void add(const Floats& x) {
        for (const float v : x) add(std::isnan(v) ? 0x7fc00000U : std::bit_cast<std::uint32_t>(v));
    }
    void add(const std::vector<double>& x) {
        for (const double v : x) {
            const auto bits = std::bit_cast<std::uint64_t>(v);
            add(static_cast<std::uint32_t>(bits));
            add(static_cast<std::uint32_t>(bits >> 32));
        }
    }
    void add(std::uint32_t bits) {
        for (int i = 0; i < 32; i += 8) value = (value ^ (bits >> i & 0xff)) * 1099511628211U;
    }
    std::uint64_t value = 14695981039346656037U;
};

template <class Args>
void run(const Kernel<Args>& kernel, const Args& args) {
    const Task t = task(kernel, args);
    run_tasks(&t, 1, 1e9, nullptr);
}

template <class Args, std::size_t phases>
void run(const Kernel<Args> (&kernel)[phases], const Args& args) {
    Task tasks[phases];
    for (std::size_t i = 0; i < phases; ++i) tasks[i] = task(kernel[i], args);
    run_tasks(tasks, phases, 1e9, nullptr);
}

void gemm(Hash& hash) {
    struct Shape {
        Index m, n, k;
    };
    for (const auto& [m, n, k] : {Shape{1, 1, 1}, {7, 17, 9}, {13, 65, 33}, {31, 15, 1030}, {70, 130, 64}}) {
        for (int transposed = 0; transposed < 4; ++transposed) {
            Random r;
            const Floats a = r.floats(m * k), b = r.floats(k * n), bias = r.floats(n);
            Floats c = r.floats(m * n);
            GemmArgs g{};
            g.a = a.data();
            g.a_row = (transposed & 1) != 0 ? 1 : k;
            g.a_col = (transposed & 1) != 0 ? m : 1;
            g.b = b.data();
            g.b_row = (transposed & 2) != 0 ? 1 : n;
            g.b_col = (transposed & 2) != 0 ? k : 1;
            g.c = c.data();
            g.c_row = n;
            g.bias = bias.data();
            g.m = m;
            g.n = n;
            g.k = g.k_end = k;
            g.alpha = 0.7F;
            g.beta = transposed == 3 ? 0.0F : 0.3F;
            g.activation = transposed == 1 ? Activation::none : Activation::relu;
            run(kernels().gemm, g);
            hash.add(c);
        }
    }
}

void column_sum(Hash& hash) {
    for (const Index rows : {1, 49, 200}) {
        for (const Index cols : {1, 17, 130}) {
            Random r;
            const Floats x = r.floats(rows * cols);
            Floats out = r.floats(cols), partials(static_cast<std::size_t>(column_partials(rows, cols)));
            ColumnSumArgs s{};
            s.x = x.data();
            s.x_row = cols;
            s.rows = rows;
            s.cols = cols;
            s.out = out.data();
            s.partials = partials.data();
            s.accumulate = rows == 49;
            run(kernels().column_sum, s);
            hash.add(out);
        }
    }
}

void activation(Hash& hash) {
    for (int kind = static_cast<int>(Activation::relu); kind <= static_cast<int>(Activation::softplus);
         ++kind) {
        for (const Index n : {1, 15, 17, 33001}) {
            Random r;
            Floats x = r.floats(n);
            for (float& v : x) v *= 20.0F;
            for (std::size_t i = 3; i < x.size(); i += 7) x[i] *= 1e-40F;  // denormals count as zero
            const Floats dy = r.floats(n);
            Floats y(x.size()), dx(x.size());
            ActivationArgs f{};
            f.x = x.data();
            f.y = y.data();
            f.n = n;
            f.kind = static_cast<Activation>(kind);
            f.alpha = 0.3F;
            run(kernels().activation, f);
            ActivationBackwardArgs b{};
            b.dy = dy.data();
            b.x = x.data();
            b.dx = dx.data();
            b.n = n;
            b.kind = f.kind;
            b.alpha = f.alpha;
            run(kernels().activation_backward, b);
            hash.add(y);
            hash.add(dx);
        }
    }
}

void dropout(Hash& hash) {
    for (const Index n : {1, 17, 40001}) {
        Random r;
        const Floats x = r.floats(n);
        Floats y(x.size());
        const std::uint64_t step = 7;
        DropoutArgs d{};
        d.x = x.data();
        d.y = y.data();
        d.n = n;
        d.seed = 123456789012345;
        d.step = &step;
        d.threshold = -500'000'000;
        d.scale = 1.5F;
        run(kernels().dropout, d);
        hash.add(y);
    }
}

void point_loss(Hash& gradient, Hash& loss) {
    for (const PointLoss kind : {PointLoss::squared, PointLoss::huber, PointLoss::logistic}) {
        for (const bool weighted : {false, true}) {
            const Index rows = 300, cols = 61;
            Random r;
            Floats pred = r.floats(rows * cols);
            for (float& v : pred) v *= 20.0F;
            const Floats target = r.floats(rows * cols, 0.0F), weight = r.floats(rows, 0.0F);
            Floats dpred(pred.size());
            PointLossArgs p{};
            p.pred = pred.data();
            p.target = target.data();
            p.weight = weighted ? weight.data() : nullptr;
            p.dpred = dpred.data();
            p.rows = rows;
            p.cols = cols;
            p.kind = kind;
            p.scale = 1.0F / 300.0F;
            p.delta = 0.7F;
            std::vector<double> sums(static_cast<std::size_t>(kernels().point_loss.chunks(p)));
            p.sums = sums.data();
            run(kernels().point_loss, p);
            gradient.add(dpred);
            loss.add(sums);
        }
    }
}

void batch_norm(Hash& hash) {
    for (const Index rows : {2, 49, 300}) {
        for (const Index cols : {1, 17, 130}) {
            for (const bool training : {true, false}) {
                Random r;
                const Floats x = r.floats(rows * cols), dy = r.floats(rows * cols);
                const Floats gamma = r.floats(cols), beta = r.floats(cols);
                Floats y(x.size()), dx(x.size()), mean(gamma), rstd(gamma), dgamma(gamma), dbeta(gamma);
                Floats running_mean = r.floats(cols), running_var = r.floats(cols, 0.5F);
                Floats partials(static_cast<std::size_t>(2 * cols + 3 * column_partials(rows, cols)));
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
                f.training = training;
                f.activation = Activation::relu;
                run(kernels().batch_norm, f);
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
                b.sums = partials.data();
                b.partials = partials.data() + 2 * cols;
                b.activation = Activation::relu;
                run(kernels().batch_norm_backward, b);
                for (const Floats* p : {&y, &mean, &rstd, &running_mean, &running_var, &dx, &dgamma, &dbeta})
                    hash.add(*p);
            }
        }
    }
}

void softmax(Hash& gradient, Hash& loss) {
    for (const Index cols : {1, 10, 100}) {
        for (const bool ids : {true, false}) {
            const Index rows = 41;
            Random r;
            Floats logits = r.floats(rows * cols);
            for (float& v : logits) v *= 20.0F;
            const Floats target = r.floats(rows * cols, 0.0F), weight = r.floats(rows, 0.0F);
            std::vector<std::int64_t> labels(static_cast<std::size_t>(rows));
            for (std::int64_t& v : labels) v = static_cast<std::int64_t>(r.next() >> 8) % cols;
            Floats dlogits(logits.size());
            std::vector<double> row_loss(labels.size());
            SoftmaxArgs s{};
            s.logits = logits.data();
            s.labels = ids ? labels.data() : nullptr;
            s.probabilities = ids ? nullptr : target.data();
            s.weight = weight.data();
            s.dlogits = dlogits.data();
            s.logits_row = s.probabilities_row = cols;
            s.row_loss = row_loss.data();
            s.rows = rows;
            s.cols = cols;
            s.scale = 1.0F / 41.0F;
            s.keep = 0.9F;
            s.share = 0.1F / static_cast<float>(cols);
            run(kernels().softmax_cross_entropy, s);
            gradient.add(dlogits);
            loss.add(row_loss);
        }
    }
}

// Every rule, with all that may be done to the gradient first.
void update(Hash& hash) {
    std::vector<UpdateOptions> cases;
    for (const Rule rule : {Rule::sgd, Rule::adagrad, Rule::rprop}) cases.push_back({.rule = rule});
    for (const bool one : {false, true})
        for (const bool other : {false, true}) {
            cases.push_back({.rule = Rule::momentum,
                             .style = one ? MomentumStyle::velocity : MomentumStyle::buffer,
                             .nesterov = other});
            cases.push_back({.rule = Rule::rmsprop, .centered = one, .buffered = other});
            cases.push_back({.rule = Rule::adam, .amsgrad = one, .decay_parameter = other});
        }
    for (UpdateOptions o : cases) {
        o.lr = 0.01F;
        o.decay0 = 0.9F;
        o.decay1 = 0.999F;
        o.one_minus0 = 0.1F;
        o.one_minus1 = 0.001F;
        o.eps = 1e-8F;
        o.square_scale = 1.1F;
        o.root_scale = 18.0F;
        o.keep = 0.999F;
        o.decay = 0.1F;
        o.l1 = 0.01F;
        o.noise = 0.1F;
        Random r;
        Floats p[3], g[3], m[3], v[3], w[3];
        std::vector<UpdateTensor> tensors;
        Index chunks = 0;
        for (int i = 0; i < 3; ++i) {
            const Index n = std::array<Index, 3>{5, 33001, 17}[static_cast<std::size_t>(i)];
            p[i] = r.floats(n);
            g[i] = r.floats(n);
            m[i] = r.floats(n, 0.5F);
            v[i] = r.floats(n, 0.5F);
            w[i] = r.floats(n, 0.5F);
            tensors.push_back({.param = p[i].data(),
                               .grad = g[i].data(),
                               .slot0 = m[i].data(),
                               .slot1 = v[i].data(),
                               .slot2 = w[i].data(),
                               .n = n,
                               .cols = n,
                               .first_chunk = chunks,
                               .first_unit = i,
                               .units = 1});
            chunks += update_chunks(n);
        }
        std::vector<double> sums(static_cast<std::size_t>(chunks));
        float scales[3];
        UpdateVerdict verdict{.refused = false, .arrived = 0, .non_finite = -1};
        UpdateArgs a{};
        a.tensors = tensors.data();
        a.count = 3;
        a.chunks = chunks;
        a.options = &o;
        a.clip = Clip::global_norm;
        a.clip_limit = 10.0F;
        a.sums = sums.data();
        a.scales = scales;
        a.verdict = &verdict;
        run(kernels().update, a);
        for (int j = 0; j < 3; ++j) {
            hash.add(p[j]);
            hash.add(m[j]);
            hash.add(v[j]);
            hash.add(w[j]);
        }
    }
}

struct Row {
    const char* name;
    void (*hashes)(Hash& first, Hash& second);
};

constexpr Row kRows[] = {
    {"gemm", [](Hash& h, Hash&) { gemm(h); }},
    {"column_sum", [](Hash& h, Hash&) { column_sum(h); }},
    {"activation", [](Hash& h, Hash&) { activation(h); }},
    {"dropout", [](Hash& h, Hash&) { dropout(h); }},
    {"batch_norm", [](Hash& h, Hash&) { batch_norm(h); }},
    {"softmax", [](Hash& h, Hash& loss) { softmax(h, loss); }},
    {"point_loss", [](Hash& h, Hash& loss) { point_loss(h, loss); }},
    {"update", [](Hash& h, Hash&) { update(h); }},
};

}  // namespace

int main() {
    int wrong = 0;
    for (const Row& row : kRows) {
        Hash first[3], second[3];
        for (int threads = 1; threads <= 3; ++threads) {
            set_num_threads(threads);
            row.hashes(first[threads - 1], second[threads - 1]);
        }
        std::printf("%s %016llx %016llx\n", row.name, static_cast<unsigned long long>(first[0].value),
                    static_cast<unsigned long long>(second[0].value));
        for (int i = 1; i < 3; ++i)
            wrong += first[i].value != first[0].value || second[i].value != second[0].value;
    }
    if (wrong != 0) std::printf("other bits on more threads\n");
    return wrong == 0 ? 0 : 1;
}
