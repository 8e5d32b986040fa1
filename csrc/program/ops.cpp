#include "program/ops.h"

#include <algorithm>

#include "core/sums.h"

namespace fastnn::program {
namespace {

double elements(Index n, Index each) { return static_cast<double>(n) * static_cast<double>(each); }

// Work of an activation in floats moved: one with an exponential takes several times as long as a copy.
double moved(Activation kind, double plain) {
    return kind == Activation::relu || kind == Activation::leaky_relu ? plain : plain + 2.0;
}

// c = op(a) op(b), contiguous, where a' or b' is read across its rows; a and b may be rounded, b packed.
struct Product {
    const void* a;
    bool across_a;
    const void* b;
    bool across_b;
    float* c;
    Index m, n, k;
    bool b_packed = false;
};

// What a device does in the same launch.
struct Beside {
    Slope slope{};
    ColumnSumArgs sums{};
    BFloat16* narrow = nullptr;
    Statistics statistics{};
};

void launch_product(const Place& place, GemmBf16Args args, bool rounded, const Beside& beside) {
    if (rounded) {
        args.a = reinterpret_cast<const BFloat16*>(args.g.a);
        args.b = reinterpret_cast<const BFloat16*>(args.g.b);
        args.c = beside.narrow;
        place.device->add(With<GemmBf16Args>{args, beside.slope, beside.sums, beside.statistics});
    } else if (place.tf32) {
        place.device->add(With<GemmTf32Args>{{args.g}, beside.slope, beside.sums, beside.statistics});
    } else {
        place.device->add(With<GemmArgs>{args.g, beside.slope, beside.sums, beside.statistics});
    }
}

void add_product(Place& place, GemmBf16Args& args, const Product& p, bool rounded,
                 const float* bias = nullptr, Activation activation = Activation::none,
                 const Beside& beside = {}) {
    args = {.g = {.a = static_cast<const float*>(p.a),
                  .a_row = p.across_a ? 1 : p.k,
                  .a_col = p.across_a ? p.m : 1,
                  .b = static_cast<const float*>(p.b),
                  .b_row = p.across_b ? 1 : p.n,
                  .b_col = p.across_b ? p.k : 1,
                  .c = p.c,
                  .c_row = p.n,
                  .bias = bias,
                  .m = p.m,
                  .n = p.n,
                  .k = p.k,
                  .k_begin = 0,
                  .k_end = p.k,
                  .alpha = 1,
                  .beta = 0,
                  .activation = activation,
                  .b_packed = p.b_packed},
            .a = nullptr,
            .b = nullptr,
            .c = nullptr};
    if (place.device != nullptr)
        launch_product(place, args, rounded, beside);
    else if (rounded)
        add_product_of_rounded(place, place.kernels, args);
    else
        place.add(place.kernels.gemm, args.g);
    place.work += {2.0 * static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k), 0,
                   gemm_ns(p.m, p.n, p.k)};
    const double results = elements(p.m, p.n);
    if (beside.slope.from != nullptr) place.moves(results);
    if (beside.sums.out != nullptr) place.moves(elements(beside.sums.rows, beside.sums.cols));
    if (beside.narrow != nullptr) place.moves(results / 2);
    if (beside.statistics.norm.x != nullptr) place.moves(results);
    if (beside.statistics.backward.dy != nullptr) place.moves(2 * results);
}

ColumnSumArgs column_sums(const float* x, Index rows, Index cols, float* out) {
    return {.x = x,
            .x_row = cols,
            .rows = rows,
            .cols = cols,
            .out = out,
            .partials = nullptr,
            .accumulate = false};
}

// Rows of a batch as a product reads them.
const void* operand(const Place& place, Ref ref, bool rounded) {
    return rounded ? place.rounded_at(ref) : place.at(ref);
}
BFloat16* narrowed(const Place& place, Ref ref) {
    return ref == kNone ? nullptr : static_cast<BFloat16*>(place.rounded_at(ref));
}
const void* weight_of(const Place& place, const float* weight, Ref rounded, bool packed, Ref panels) {
    return rounded != kNone ? place.whole(rounded) : packed ? place.whole(panels) : weight;
}

}  // namespace

void Gather::prepare(Place& place) {
    GatherArgs& args = fresh();
    args = {.source = place.live(source),
            .first = place.begin,
            .rows = place.rows,
            .cols = size,
            .y = place.at(y),
            .halted = place.device != nullptr ? place.device->halted() : nullptr};
    place.add(place.kernels.gather, args);
    place.moves(2.0 * elements(place.rows, size));
}

void RoundWeight::prepare(Place& place) {
    RoundArgs& args = fresh();
    args = {.x = weight, .x_row = out, .rows = in, .cols = out, .y = place.whole(y)};
    place.add(place.kernels.round_bf16, args);
    place.moves(2.0 * elements(in, out));
}

void PackWeight::prepare(Place& place) {
    if (!place.in_blocks) return;
    PackArgs& args = fresh();
    args = {.b = weight,
            .b_row = transposed ? 1 : out,
            .b_col = transposed ? out : 1,
            .k = transposed ? out : in,
            .n = transposed ? in : out,
            .y = place.whole(y)};
    place.add(place.kernels.pack_b, args);
    place.moves(2.0 * elements(in, out));
}

void Round::prepare(Place& place) {
    RoundArgs& args = fresh();
    args = {.x = place.at(x), .x_row = size, .rows = place.rows, .cols = size, .y = place.rounded_at(y)};
    place.add(place.kernels.round_bf16, args);
    place.moves(2.0 * elements(place.rows, size));
}

void Linear::prepare(Place& place) {
    const bool round = rounded != kNone, panels = packed != kNone && place.in_blocks;
    Beside beside{.narrow = narrowed(place, narrow)};
    if (norm != nullptr) beside.statistics = {norm->arguments(place), {}, place.counts};
    add_product(place, fresh(),
                {operand(place, x, round), false, weight_of(place, weight, rounded, panels, packed), false,
                 place.at(y), place.rows * rows, out, in, panels},
                round, bias, activation, beside);
}

std::vector<Ref> Linear::touches() const {
    return {x, y, rounded, narrow, norm != nullptr ? norm->statistics : kNone};
}
Index Linear::scratch(Index n) const { return norm != nullptr ? norm->partials(n) : 0; }
Index Linear::counts(Index n) const { return norm != nullptr ? statistic_counts(n * rows, out) : 0; }

void LinearWeight::prepare(Place& place) {
    const Index n = place.rows * rows;
    Beside beside;
    if (dbias != nullptr) beside.sums = column_sums(place.at(bias_dy), n, out, dbias);
    add_product(place, fresh(),
                {operand(place, x, rounded), true, operand(place, dy, rounded), false, dweight, in, out, n},
                rounded, nullptr, Activation::none, beside);
}

void LinearInput::prepare(Place& place) {
    const bool round = rounded != kNone, panels = packed != kNone && place.in_blocks;
    Beside beside{.slope = {.from = place.at(from), .from_x = from_x, .kind = behind, .alpha = alpha},
                  .narrow = narrowed(place, narrow)};
    if (norm != nullptr) beside.statistics = {{}, norm->arguments(place), place.counts};
    add_product(place, fresh(),
                {operand(place, dy, round), false, weight_of(place, weight, rounded, panels, packed), true,
                 place.at(dx), place.rows * rows, in, out, panels},
                round, nullptr, Activation::none, beside);
}

std::vector<Ref> LinearInput::touches() const {
    std::vector<Ref> touched{dy, dx, rounded, from, narrow};
    if (norm != nullptr) touched.insert(touched.end(), {norm->x, norm->y, norm->statistics, norm->sums});
    return touched;
}
Index LinearInput::scratch(Index n) const { return norm != nullptr ? norm->partials(n) : 0; }
Index LinearInput::counts(Index n) const { return norm != nullptr ? statistic_counts(n * rows, in) : 0; }

void LinearBias::prepare(Place& place) {
    ColumnSumArgs& args = fresh();
    args = column_sums(place.at(dy), place.rows * rows, out, dbias);
    args.partials = place.scratch;
    place.add(place.kernels.column_sum, args);
    place.moves(elements(args.rows, out));
}

void Activate::prepare(Place& place) {
    ActivationArgs& args = fresh();
    args = {.x = place.at(x), .y = place.at(y), .n = place.rows * size, .kind = activation, .alpha = alpha};
    place.add(place.kernels.activation, args);
    place.moves(2.0 * elements(place.rows, size), moved(activation, 2.0) * elements(place.rows, size));
}

void ActivateBackward::prepare(Place& place) {
    ActivationBackwardArgs& args = fresh();
    args = {.dy = place.at(dy),
            .x = place.at(x),
            .y = place.at(y),
            .dx = place.at(dx),
            .n = place.rows * size,
            .kind = activation,
            .alpha = alpha};
    place.add(place.kernels.activation_backward, args);
    place.moves(3.0 * elements(place.rows, size), moved(activation, 3.0) * elements(place.rows, size));
}

BatchNormArgs BatchNorm::arguments(const Place& place) const {
    BatchNormArgs args{};
    args.x = place.at(x);
    args.x_row = args.y_row = args.cols = cols;
    args.y = place.at(y);
    args.rows = place.rows * rows;
    args.gamma = gamma;
    args.beta = beta;
    args.mean = place.whole(statistics);
    args.rstd = args.mean + padded(cols);
    args.running_mean = running_mean;
    args.running_var = running_var;
    args.partials = place.scratch;
    args.eps = eps;
    args.momentum = momentum;
    args.training = training;
    args.biased = !unbiased;
    args.activation = activation;
    args.frozen = place.device != nullptr ? place.device->frozen() : nullptr;
    args.updates = place.device != nullptr && training ? updates : nullptr;
    args.formed = formed;
    return args;
}

void BatchNorm::prepare(Place& place) {
    BatchNormArgs& args = fresh();
    args = arguments(place);
    if (!training && place.device == nullptr) {
        args.mean = running_.emplace_back(static_cast<std::size_t>(2 * padded(cols))).data();
        args.rstd = args.mean + padded(cols);
    }
    place.add(place.kernels.batch_norm, args);
    place.moves((formed ? 2.0 : 3.0) * elements(args.rows, cols));
}

void BatchNorm::forget() {
    OpOf::forget();
    running_.clear();
}

void BatchNorm::before_run() {
    if (!training) return;
    if (updates != nullptr) {
        const double w = debiased_weight(momentum, static_cast<double>(*updates));
        for (BatchNormArgs& args : args_) args.momentum = w;
    }
    old_.assign(running_mean, running_mean + cols);
    old_.insert(old_.end(), running_var, running_var + cols);
}

void BatchNorm::after_run() {
    if (training && updates != nullptr) *updates += 1.0f;
}

void BatchNorm::cancelled() {
    if (!training) return;
    std::copy_n(old_.begin(), cols, running_mean);
    std::copy_n(old_.begin() + cols, cols, running_var);
}

BatchNormBackwardArgs BatchNormBackward::arguments(const Place& place) const {
    BatchNormBackwardArgs args{};
    args.dy = place.at(dy);
    args.x = place.at(x);
    args.y = place.at(y);
    args.dx = place.at(dx);
    args.dy_row = args.x_row = args.y_row = args.dx_row = args.cols = cols;
    args.rows = place.rows * rows;
    args.gamma = gamma;
    args.mean = place.whole(statistics);
    args.rstd = args.mean + BatchNorm::padded(cols);
    args.dgamma = dgamma;
    args.dbeta = dbeta;
    args.formed = sums != kNone;
    args.sums = args.formed ? place.whole(sums) : place.scratch;
    args.partials = args.formed ? place.scratch : place.scratch + 2 * BatchNorm::padded(cols);
    args.activation = activation;
    return args;
}

void BatchNormBackward::prepare(Place& place) {
    BatchNormBackwardArgs& args = fresh();
    args = arguments(place);
    place.add(place.kernels.batch_norm_backward, args);
    place.moves((args.formed ? 3.0 : 5.0) * elements(args.rows, cols));
}

void Dropout::prepare(Place& place) {
    DropoutArgs& args = fresh();
    args = mask;
    args.x = place.at(x);
    args.y = place.at(y);
    args.n = place.rows * size;
    args.first = place.begin * size;
    args.step = place.live(step);
    place.add(place.kernels.dropout, args);
    place.moves(3.0 * elements(place.rows, size));
}

void ScaleColumns::prepare(Place& place) {
    if (place.device != nullptr) return prepare_on_device(place);
    shift_.assign(static_cast<std::size_t>(cols), 0.0);
    offset_.assign(static_cast<std::size_t>(cols), -0.0f);  // which keeps the sign of a zero
    ScaleColumnsArgs& args = fresh();
    args.x = place.at(x);
    args.x_row = args.y_row = args.cols = cols;
    args.element = Element::float32;
    args.y = place.at(y);
    args.rows = place.rows * rows;
    args.shift = shift_.data();
    args.scale = scale;
    args.offset = offset != nullptr ? offset : offset_.data();
    place.add(place.kernels.scale_columns, args);
    place.moves(2.0 * elements(args.rows, cols));
}

void ScaleColumns::prepare_on_device(Place& place) {
    auto* wide = reinterpret_cast<double*>(place.scratch);
    if (shift != nullptr) place.device->add(WidenArgs{.x = shift, .y = wide, .n = cols});
    place.device->add(ScaleColumnsArgs{.x = place.at(x),
                                       .x_row = cols,
                                       .element = Element::float32,
                                       .y = place.at(y),
                                       .y_row = cols,
                                       .rows = place.rows * rows,
                                       .cols = cols,
                                       .shift = shift != nullptr ? wide : nullptr,
                                       .scale = scale,
                                       .offset = offset});
}

void ScaleColumns::before_run() {
    if (shift != nullptr) std::copy(shift, shift + cols, shift_.begin());
}

void Add::prepare(Place& place) {
    AddArgs& args = fresh();
    args = {.a = place.at(a), .b = place.at(b), .y = place.at(y), .n = place.rows * size};
    place.add(place.kernels.add, args);
    place.moves(3.0 * elements(place.rows, size));
}

}  // namespace fastnn::program
