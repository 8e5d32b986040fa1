// From an optimizer's numbers to what the update kernels take: the coefficients of a step, formed in double
// and rounded once (rules.h says how they enter), and how the arrays are cut into chunks.
#pragma once

#include <vector>

#include "core/team.h"
#include "core/types.h"

namespace fastnn {

enum class EpsMode : int {
    outside,
    inside,
    hat
};  // of the root; hat: outside, before Adam's bias correction

UpdateOptions sgd_options(double lr);
// share: how much of the gradient enters the velocity, 1 - dampening
UpdateOptions momentum_options(double lr, double momentum, double share, bool nesterov, bool velocity);
UpdateOptions rmsprop_options(double lr, double rho, double eps, EpsMode mode, bool centered, bool buffered,
                              double momentum);
UpdateOptions adagrad_options(double lr, double eps, EpsMode mode);
UpdateOptions adam_options(double step, double lr, double beta1, double beta2, double eps, EpsMode mode,
                           bool amsgrad);
UpdateOptions rprop_options(double shrink, double grow, double smallest, double largest);
// L2 and L1 of the parameters, added to the gradient or (decoupled) taken from the parameter.
void set_decay(UpdateOptions& options, double lr, double weight_decay, double l1, bool decoupled,
               bool towards_initial);

// The numbers of a group for one step, flags as 0 or 1 and EpsMode as its number: what the rule takes, in the
// order of the functions above (adam: and at last whether decay is decoupled), then three that all rules
// take.
struct GroupNumbers {
    static constexpr int kOfRule = 7;
    static constexpr int kCount = kOfRule + 3;
    double of_rule[kOfRule];
    double weight_decay, l1;
    double noise;  // standard deviation
};
static_assert(sizeof(GroupNumbers) == GroupNumbers::kCount * sizeof(double));
int count_of_numbers(Rule rule);

// step counts from 1.
UpdateOptions update_options(Rule rule, std::int64_t step, const GroupNumbers& numbers, bool towards_initial,
                             std::uint64_t noise_seed);

// The arguments of an update and the memory they point to. Not to be moved once `lay_out` was called.
class UpdatePlan {
 public:
    UpdateArgs args{};
    std::vector<UpdateTensor> tensors;
    std::vector<UpdateOptions> options;

    // t.param to t.initial, n, cols, place and group are set.
    void add(UpdateTensor t);
    // After the last `add`; clip, its limits and refuse_non_finite of args are set.
    void lay_out();
    // Before a run of these phases, the one that changes the arrays last: the same arrays come again and
    // again, and what the caches still hold of them comes first. So each phase goes through them in another
    // order than the one before it, and than in the call before.
    void take_turns(Task* phases, std::size_t count, std::uint64_t call) const;
    // Before a run.
    void clear_verdict() { verdict_ = {false, 0, -1}; }
    // The first array whose gradient is not finite and therefore nothing was updated, or -1.
    Index refused() const { return verdict_.refused ? verdict_.non_finite : -1; }
    double floats() const;  // read and written by a run
    // Work of one thread in a call of its own: of few numbers none that another could take.
    double cost_ns() const;
    Index scale_count() const { return static_cast<Index>(scales_.size()); }

 private:
    Index count_units();
    int find_middle() const;

    int middle_ = 0;
    double arrays_ = 0.0, elements_ = 0.0;
    std::vector<float> scales_;
    std::vector<double> sums_;
    UpdateVerdict verdict_{false, 0, -1};
};

}  // namespace fastnn
