// An update with the arrays it points into, made once for as long as an optimizer's arrays and options stay.
#pragma once

#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "bind/device_arrays.h"
#include "bind/fastcall.h"
#include "program/update.h"

namespace fastnn::bind {

// The place of a name among `names`, of what fastnn itself lowers.
template <class Choice>
Choice named(const std::string& name, std::initializer_list<const char*> names) {
    int number = 0;
    for (const char* known : names) {
        if (name == known) return static_cast<Choice>(number);
        ++number;
    }
    throw std::invalid_argument("program: unknown choice " + name);
}

// Arrays that somebody points into: float32, contiguous, all on the device or all on the host.
class KeptArrays {
 public:
    explicit KeptArrays(bool on_device) : on_device_(on_device) {}

    DeviceArray floats(py::handle object);  // of None: null
    float* array(py::handle object) { return static_cast<float*>(floats(object).data); }

 private:
    bool on_device_;
    std::vector<py::object> kept_;
};

class BoundUpdate {
 public:
    // groups: (params, grads, slot0, slot1, slot2, initial, places, seed), lists of arrays, or None for those
    // that the rule or its options do not use.
    BoundUpdate(const std::string& rule, const py::list& groups, const std::string& clip, double limit,
                double floor, bool refuse, bool on_device);

    std::shared_ptr<program::Update> update = std::make_shared<program::Update>();

 private:
    friend class UpdateInUse;
    bool running_ = false;  // guarded by the GIL
    KeptArrays arrays_;
};

// Nobody else may use the update until this goes.
class UpdateInUse {
 public:
    explicit UpdateInUse(BoundUpdate& bound);
    ~UpdateInUse() { bound_.running_ = false; }
    UpdateInUse(const UpdateInUse&) = delete;
    UpdateInUse& operator=(const UpdateInUse&) = delete;

 private:
    BoundUpdate& bound_;
};

}  // namespace fastnn::bind
