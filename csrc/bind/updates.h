// The arrays of an update, from Python values to an UpdatePlan.
#pragma once

#include <vector>

#include "bind/arrays.h"
#include "core/update_options.h"

namespace fastnn::bind {

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

    // Lays `plan` out and runs it, as this call of many.
    void run(std::uint64_t number);

    UpdatePlan plan;

 private:
    void add_tensor(const Value (&items)[kRoles], int group, Index place);
    float* in_place(const Value& value, Shape& shape);
    void check_place(const Value& value);
    void run_on_device(OnDevice& device);

    Call& call_;
    std::vector<Region> regions_;
    Value on_host_{nullptr, nullptr};  // the first array that lies there
};

}  // namespace fastnn::bind
