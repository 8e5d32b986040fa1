// Reads the arguments that are no arrays: numbers, flags and names. Every refusal names the value.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "bind/fastcall.h"
#include "core/types.h"

namespace fastnn::bind {

double number(const Call& call, const Value& value);        // any int or float, NaN and infinity included
double non_negative(const Call& call, const Value& value);  // finite as float32 and >= 0
double fraction(const Call& call, const Value& value);      // in [0, 1)
bool flag(const Call& call, const Value& value);
std::int64_t positive_integer(const Call& call, const Value& value);

// The position of a string in `choices`; anything else raises, naming them all.
// `or_none` only words the refusal: whoever allows None has asked for it before.
int choice(const Call& call, const Value& value, std::initializer_list<const char*> choices,
           bool or_none = false);

Activation activation_kind(const Call& call, const Value& value);      // "relu"
Activation optional_activation(const Call& call, const Value& value);  // None or "relu"

std::string type_name(PyObject* object);
std::string repr_of(PyObject* object);

}  // namespace fastnn::bind
