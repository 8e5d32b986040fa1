// The arrays and numbers of an update, from Python values to UpdateArgs.
#pragma once

#include <vector>

#include "bind/arrays.h"

namespace fastnn::bind {

// ---- the coefficients of each rule (core/rules.h), formed in double and rounded once

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

// ---- the arrays

// What an array is to an update; the slots are the rule's, `initial` is what decay goes towards.
enum class Role : int { param, grad, slot0, slot1, slot2, initial };
inline constexpr int kRoles = 6;

// The arrays of one update, checked: groups of one array, or of lists of as many, for each role.
class UpdateArrays {
 public:
    explicit UpdateArrays(Call& call) : call_(call) {}

    // `values[role]` without an object: the role is not there. `places`: the numbers of the arrays, or null.
    void add(const Value (&values)[kRoles], int group, PyObject* places = nullptr);
    // After the last `add`: no two arrays may share memory.
    void check_all_apart();

    // Fills tensors, count and chunks of `args` and runs it; `floats` more are read for each element.
    void run(UpdateArgs args, double floats = 0.0) const;

    std::vector<UpdateTensor>& tensors() { return tensors_; }
    Index chunks() const { return chunks_; }

 private:
    void add_tensor(const Value (&items)[kRoles], int group, Index place);
    float* in_place(const Value& value, Shape& shape);

    Call& call_;
    Index chunks_ = 0;
    double floats_ = 0.0;  // read and written
    std::vector<UpdateTensor> tensors_;
    std::vector<Region> regions_;
    double elements_ = 0.0;
};

}  // namespace fastnn::bind
