// Reads the arguments that are no arrays: numbers, flags and names. Every refusal names the value.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "bind/fastcall.h"
#include "core/types.h"

namespace fastnn::bind {

double number_of_object(const Call& call, const Value& value);
bool flag_of_object(const Call& call, const Value& value);

// Any int or float, NaN and infinity included.
inline double number(const Call& call, const Value& value) {
    return PyFloat_CheckExact(value.object) ? PyFloat_AS_DOUBLE(value.object) : number_of_object(call, value);
}

inline bool flag(const Call& call, const Value& value) {
    if (value.object == Py_False) return false;
    return value.object == Py_True || flag_of_object(call, value);
}

double non_negative(const Call& call, const Value& value);   // finite as float32 and >= 0
double positive(const Call& call, const Value& value);       // finite as float32 and > 0
double fraction(const Call& call, const Value& value);       // in [0, 1)
double in_unit_range(const Call& call, const Value& value);  // in [0, 1]

inline constexpr std::int64_t kAnyInteger = INT64_MIN;
std::int64_t integer(const Call& call, const Value& value, std::int64_t least = kAnyInteger);
inline std::int64_t positive_integer(const Call& call, const Value& value) { return integer(call, value, 1); }

// The position of a string in `choices`; anything else raises, naming them all.
// `or_none` only words the refusal: whoever allows None has asked for it before.
int choice(const Call& call, const Value& value, std::initializer_list<const char*> choices,
           bool or_none = false);

// The names of the activations, in the order of the enum behind none.
inline constexpr std::initializer_list<const char*> kActivationNames = {
    "relu", "leaky_relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu", "elu", "selu", "softplus"};

Activation activation_kind(const Call& call, const Value& value, bool or_none = false);

inline Activation optional_activation(const Call& call, const Value& value) {
    return value.given() ? activation_kind(call, value, true) : Activation::none;
}

std::string type_name(PyObject* object);
std::string repr_of(PyObject* object);

}  // namespace fastnn::bind
