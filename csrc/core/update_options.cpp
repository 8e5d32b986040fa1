#include "core/update_options.h"

#include <cmath>

#include "core/cost.h"
#include "core/kernels.h"

namespace fastnn {
namespace {

UpdateOptions options_of(Rule rule, double lr) {
    UpdateOptions o{};
    o.rule = rule;
    o.lr = static_cast<float>(lr);
    o.square_scale = o.root_scale = o.keep = 1.0f;
    return o;
}

void set_eps(UpdateOptions& o, double eps, EpsMode mode) {
    (mode == EpsMode::inside ? o.eps_inside : o.eps) = static_cast<float>(eps);
}

}  // namespace

UpdateOptions sgd_options(double lr) { return options_of(Rule::sgd, lr); }

UpdateOptions momentum_options(double lr, double momentum, double share, bool nesterov, bool velocity) {
    UpdateOptions o = options_of(Rule::momentum, lr);
    o.decay0 = static_cast<float>(momentum);
    o.one_minus0 = static_cast<float>(velocity ? lr * share : share);
    o.nesterov = nesterov;
    o.style = velocity ? MomentumStyle::velocity : MomentumStyle::buffer;
    return o;
}

UpdateOptions rmsprop_options(double lr, double rho, double eps, EpsMode mode, bool centered, bool buffered,
                              double momentum) {
    UpdateOptions o = options_of(Rule::rmsprop, lr);
    o.decay0 = static_cast<float>(rho);
    o.one_minus0 = static_cast<float>(1.0 - rho);
    o.centered = centered;
    o.buffered = buffered;
    o.decay1 = static_cast<float>(momentum);
    set_eps(o, eps, mode);
    return o;
}

UpdateOptions adagrad_options(double lr, double eps, EpsMode mode) {
    UpdateOptions o = options_of(Rule::adagrad, lr);
    set_eps(o, eps, mode);
    return o;
}

UpdateOptions adam_options(double step, double lr, double beta1, double beta2, double eps, EpsMode mode,
                           bool amsgrad) {
    const double m_share = 1.0 - std::pow(beta1, step);
    const double v_share = 1.0 - std::pow(beta2, step);
    UpdateOptions o = options_of(Rule::adam, (mode == EpsMode::hat ? lr * std::sqrt(v_share) : lr) / m_share);
    o.decay0 = static_cast<float>(beta1);
    o.decay1 = static_cast<float>(beta2);
    o.one_minus0 = static_cast<float>(1.0 - beta1);
    o.one_minus1 = static_cast<float>(1.0 - beta2);
    o.amsgrad = amsgrad;
    set_eps(o, eps, mode);
    if (mode == EpsMode::outside) o.root_scale = static_cast<float>(1.0 / std::sqrt(v_share));
    if (mode == EpsMode::inside) o.square_scale = static_cast<float>(1.0 / v_share);
    return o;
}

UpdateOptions rprop_options(double shrink, double grow, double smallest, double largest) {
    UpdateOptions o = options_of(Rule::rprop, 0.0);
    o.decay0 = static_cast<float>(shrink);
    o.decay1 = static_cast<float>(grow);
    o.one_minus0 = static_cast<float>(smallest);
    o.one_minus1 = static_cast<float>(largest);
    return o;
}

void set_decay(UpdateOptions& o, double lr, double weight_decay, double l1, bool decoupled,
               bool towards_initial) {
    if (decoupled && l1 == 0.0 && !towards_initial) {
        o.keep = static_cast<float>(1.0 - lr * weight_decay);
        return;
    }
    o.decay_parameter = decoupled;
    o.decay = static_cast<float>(decoupled ? lr * weight_decay : weight_decay);
    o.l1 = static_cast<float>(decoupled ? lr * l1 : l1);
}

int count_of_numbers(Rule rule) {
    switch (rule) {
        case Rule::sgd:
            return 1;
        case Rule::adagrad:
            return 3;
        case Rule::momentum:
        case Rule::rprop:
            return 5;
        default:
            return 7;
    }
}

UpdateOptions update_options(Rule rule, std::int64_t step, const GroupNumbers& numbers, bool towards_initial,
                             std::uint64_t noise_seed) {
    const double* n = numbers.of_rule;
    const double lr = n[0];
    const auto mode = [&](int i) { return static_cast<EpsMode>(static_cast<int>(n[i])); };
    const auto flag = [&](int i) { return n[i] != 0.0; };
    UpdateOptions o{};
    bool decoupled = false;
    switch (rule) {
        case Rule::sgd:
            o = sgd_options(lr);
            break;
        case Rule::momentum:
            o = momentum_options(lr, n[1], n[2], flag(3), flag(4));
            break;
        case Rule::rmsprop:
            o = rmsprop_options(lr, n[1], n[2], mode(3), flag(4), flag(5), n[6]);
            break;
        case Rule::adagrad:
            o = adagrad_options(lr, n[1], mode(2));
            break;
        case Rule::adam:
            o = adam_options(static_cast<double>(step), lr, n[1], n[2], n[3], mode(4), flag(5));
            decoupled = flag(6);
            break;
        case Rule::rprop:
            o = rprop_options(n[1], n[2], n[3], n[4]);
            break;
    }
    set_decay(o, lr, numbers.weight_decay, numbers.l1, decoupled, towards_initial);
    o.noise = static_cast<float>(numbers.noise);
    o.noise_seed = noise_seed;
    o.noise_step = static_cast<std::uint64_t>(step - 1);
    return o;
}

void UpdatePlan::add(UpdateTensor t) {
    const float* const others[] = {t.slot0, t.slot1, t.slot2, t.initial};
    double arrays = 2.0;
    for (const float* other : others) arrays += other != nullptr ? 1.0 : 0.0;
    t.units = 1;
    t.first_chunk = args.chunks;
    args.chunks += update_chunks(t.n);
    arrays_ += (2.0 * arrays - 1.0) * static_cast<double>(t.n);
    elements_ += static_cast<double>(t.n);
    tensors.push_back(t);
}

// One scale for each array, or for each column of a matrix; returns how many there are.
Index UpdatePlan::count_units() {
    constexpr Index kColumnsOfChunk = 64;
    const bool adaptive = args.clip == Clip::adaptive;
    Index units = 0;
    for (UpdateTensor& t : tensors) {
        const bool matrix = adaptive && t.cols > 1 && t.n > t.cols;
        t.units = matrix ? t.cols : 1;
        t.first_unit = units;
        t.first_unit_chunk = args.unit_chunks;
        units += t.units;
        if (adaptive) args.unit_chunks += matrix ? (t.cols + kColumnsOfChunk - 1) / kColumnsOfChunk : 1;
    }
    return units;
}

void UpdatePlan::lay_out() {
    const bool scales = args.clip != Clip::none && args.clip != Clip::value;
    const bool sums = args.refuse_non_finite || args.clip == Clip::norm || args.clip == Clip::global_norm;
    scales_.resize(static_cast<std::size_t>(scales ? count_units() : 0));
    sums_.resize(static_cast<std::size_t>(sums ? args.chunks : 0));
    middle_ = find_middle();
    args.tensors = tensors.data();
    args.count = static_cast<Index>(tensors.size());
    args.options = options.data();
    args.scales = scales ? scales_.data() : nullptr;
    args.sums = sums ? sums_.data() : nullptr;
    args.verdict = sums ? &verdict_ : nullptr;
}

// The chunk before which half of the elements lie.
int UpdatePlan::find_middle() const {
    double left = elements_ / 2;
    for (const UpdateTensor& t : tensors) {
        const auto n = static_cast<double>(t.n);
        if (left < n)
            return static_cast<int>(t.first_chunk) +
                   static_cast<int>(left / static_cast<double>(update_chunk(t.n)) + 0.5);
        left -= n;
    }
    return 0;
}

void UpdatePlan::take_turns(Task* phases, std::size_t count, std::uint64_t call) const {
    const double memory = (arrays_ + elements_) / 2;  // elements_ of each array
    for (std::size_t i = 0; i < count; ++i) {
        const bool turned =
            to_and_fro(memory) && (call + (i + 1 == count)) % 2 != 0 && phases[i].chunks == args.chunks;
        phases[i].middle = turned ? middle_ : 0;
    }
}

double UpdatePlan::cost_ns() const {
    constexpr double kAlone = 16384;  // Adam on 10 thousand: 2.0 us on one thread, 2.6 to 3.4 on two
    return elements_ < kAlone ? 0.0 : stream_ns(floats());
}

double UpdatePlan::floats() const {
    return arrays_ + ((args.sums != nullptr ? 1.0 : 0.0) + (args.unit_chunks > 0 ? 2.0 : 0.0)) * elements_;
}

}  // namespace fastnn
