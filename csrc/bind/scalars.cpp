#include "bind/scalars.h"

#include <cmath>
#include <string_view>

namespace fastnn::bind {
namespace {

bool is_numpy_bool(PyObject* object) {
    const std::string_view name = Py_TYPE(object)->tp_name;
    return name == "numpy.bool" || name == "numpy.bool_";  // NumPy 2, NumPy 1
}

}  // namespace

std::string type_name(PyObject* object) { return object == Py_None ? "None" : Py_TYPE(object)->tp_name; }

std::string repr_of(PyObject* object) {
    constexpr Py_ssize_t kLongest = 80;  // a wrong argument may print as pages
    auto text = py::reinterpret_steal<py::object>(PyObject_Repr(object));
    if (!text) throw py::error_already_set();
    if (PyUnicode_GET_LENGTH(text.ptr()) <= kLongest) return utf8(text.ptr());
    text = py::reinterpret_steal<py::object>(PyUnicode_Substring(text.ptr(), 0, kLongest));
    if (!text) throw py::error_already_set();
    return utf8(text.ptr()) + "...";
}

double number_of_object(const Call& call, const Value& value) {
    const double x = PyFloat_AsDouble(value.object);
    if (x == -1.0 && PyErr_Occurred() != nullptr) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            call.value_error(value, "must fit a float, got " + repr_of(value.object));
        }
        if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
        PyErr_Clear();
        call.type_error(value, "must be a number, got " + type_name(value.object) + "; pass a float");
    }
    return x;
}

double non_negative(const Call& call, const Value& value) {
    const double x = number(call, value);
    if (!(x >= 0) || !std::isfinite(static_cast<float>(x))) {
        call.value_error(value, "must be finite and at least 0, got " + repr_of(value.object));
    }
    return x;
}

double positive(const Call& call, const Value& value) {
    const double x = number(call, value);
    const float rounded = static_cast<float>(x);
    if (!(rounded > 0) || !std::isfinite(rounded))
        call.value_error(value, "must be finite and above 0, got " + repr_of(value.object));
    return x;
}

double fraction(const Call& call, const Value& value) {
    const double x = number(call, value);
    if (!(x >= 0 && x < 1))
        call.value_error(value, "must be at least 0 and below 1, got " + repr_of(value.object));
    return x;
}

double in_unit_range(const Call& call, const Value& value) {
    const double x = number(call, value);
    if (!(x >= 0 && x <= 1)) call.value_error(value, "must be from 0 to 1, got " + repr_of(value.object));
    return x;
}

bool flag_of_object(const Call& call, const Value& value) {
    if (!PyLong_Check(value.object) && !is_numpy_bool(value.object)) {
        call.type_error(value, "must be True or False, got " + type_name(value.object));
    }
    const int truth = PyObject_IsTrue(value.object);
    if (truth < 0) throw py::error_already_set();
    return truth == 1;
}

std::int64_t integer(const Call& call, const Value& value, std::int64_t least) {
    const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(value.object));
    if (!index) {
        if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
        PyErr_Clear();
        call.type_error(value, "must be an int, got " + type_name(value.object));
    }
    int overflow = 0;
    const long long n = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    if (overflow != 0 || n < least) {
        call.value_error(
            value, (least == kAnyInteger ? "must fit 64 bits, got "
                                         : "must be from " + std::to_string(least) + " to 2**63 - 1, got ") +
                       repr_of(value.object));
    }
    return n;
}

int choice(const Call& call, const Value& value, std::initializer_list<const char*> choices, bool or_none) {
    int position = 0;
    const bool is_text = PyUnicode_Check(value.object);
    for (const char* name : choices) {
        if (is_text && PyUnicode_CompareWithASCIIString(value.object, name) == 0) return position;
        ++position;
    }
    std::string names = or_none ? "None" : "";
    for (const char* name : choices) names += std::string(names.empty() ? "" : " or ") + "'" + name + "'";
    if (!is_text) call.type_error(value, "must be " + names + ", got " + type_name(value.object));
    call.value_error(value, "must be " + names + ", got " + repr_of(value.object));
}

Activation activation_kind(const Call& call, const Value& value, bool or_none) {
    return static_cast<Activation>(choice(call, value, kActivationNames, or_none) + 1);
}

}  // namespace fastnn::bind
