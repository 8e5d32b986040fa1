// The arrays of an update by hand, from Python values to an UpdatePlan.
#pragma once

#include <vector>

#include "bind/arrays.h"
#include "core/update_options.h"

namespace fastnn::bind {

// What an array is to an update; the slots are the rule's, `initial` is what decay goes towards.
enum class Role : int { param, grad, slot0, slot1, slot2, initial };
inline constexpr int kRoles = 6;

// The arrays of one update, checked: one array, or lists of as many, for each role.
class UpdateArrays {
 public:
    explicit UpdateArrays(Call& call) : call_(call) {}

    // `values[role]` without an object: the role is not there. No two arrays may share memory.
    void add(const Value (&values)[kRoles], const UpdateOptions& options);

    // As this call of many.
    void run(std::uint64_t number);

 private:
    void add_tensor(const Value (&items)[kRoles]);
    void check_all_apart();
    float* in_place(const Value& value, Shape& shape);

    Call& call_;
    UpdatePlan plan_;
    std::vector<Region> regions_;
};

// The same for arrays on a device. Waits only where the caller must know whether a gradient was refused.
void update_on_device(UpdatePlan& plan, OnDevice& device);

}  // namespace fastnn::bind
