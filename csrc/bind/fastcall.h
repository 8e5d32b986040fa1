// Makes a METH_FASTCALL | METH_KEYWORDS function out of `PyObject* body(Call&)`.
//
// The first line of the docstring, such as `gemm(a, b, *, out=None, alpha=1.0)`, is the only place where the
// parameters stand. It is read once at import, so inspect.signature, the parser and the defaults agree; the
// body numbers the parameters in the same order.
#pragma once

#include <pybind11/pybind11.h>

#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace fastnn::bind {

namespace py = pybind11;

inline constexpr int kMaxParameters = 17;

// Where the arrays of a function may lie.
enum class Places { host, device_too };

struct Signature {
    std::string name;
    Places places = Places::host;
    int count = 0;
    int positional = 0;                  // the first of them; the others are keyword-only
    PyObject* names[kMaxParameters];     // interned
    const char* texts[kMaxParameters];   // the same names for C
    PyObject* defaults[kMaxParameters];  // null: required
};

// An argument's value with the words that name it in an error: 'name', or 'name[index]' in a sequence.
struct Value {
    PyObject* object;
    const char* name;
    Py_ssize_t index = -1;

    bool given() const { return object != Py_None; }
    std::string label() const;  // name or name[index]
};

// A new reference from Python's C API; null: its exception.
inline py::object owned(PyObject* object) {
    if (object == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(object);
}

// A Python string for C; what UTF-8 cannot hold (a lone surrogate) is escaped.
std::string utf8(PyObject* text);

// A TypeError or ValueError about an argument; becomes the Python exception in `invoke`.
class ArgumentError : public std::exception {
 public:
    ArgumentError(PyObject* type, std::string text) : type_(type), text_(std::move(text)) {}
    PyObject* type() const { return type_; }
    const char* what() const noexcept override { return text_.c_str(); }

 private:
    PyObject* type_;  // borrowed: one of the built-in exceptions
    std::string text_;
};

class OnDevice;

// One call in progress: its parsed arguments and what must live until it ends.
class Call {
 public:
    Call(const Signature& signature, PyObject* const* args, Py_ssize_t positional, PyObject* keywords)
        : signature_(signature) {
        parse(args, positional, keywords);
    }
    ~Call() {
        if (device_ != nullptr) [[unlikely]]
            leave_device();
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    Value operator[](int parameter) const { return {values_[parameter], signature_.texts[parameter]}; }
    const std::string& function() const { return signature_.name; }
    Places places() const { return signature_.places; }
    int count() const { return signature_.count; }
    PyObject* keep(py::object object) { return kept_.emplace_back(std::move(object)).ptr(); }

    // Null while every array lies on the host (on_device.h).
    OnDevice* device() const { return device_; }
    void enter_device(OnDevice* device) { device_ = device; }  // which is deleted at the end
    // An array of another library that lies on the host, if one was met.
    const Value& foreign() const { return foreign_; }
    void meet_foreign(const Value& value) { foreign_ = value; }

    // "gemm(): 'bias' <problem>"
    [[noreturn]] void type_error(const Value& value, const std::string& problem) const;
    [[noreturn]] void value_error(const Value& value, const std::string& problem) const;
    // "gemm(): <problem>", for what concerns several arguments
    [[noreturn]] void value_error(const std::string& problem) const;

 private:
    void parse(PyObject* const* args, Py_ssize_t positional, PyObject* keywords);
    int keyword_index(PyObject* keyword) const;
    [[noreturn]] void too_many(Py_ssize_t given) const;
    [[noreturn]] void missing() const;
    void leave_device();

    const Signature& signature_;
    OnDevice* device_ = nullptr;
    Value foreign_{nullptr, nullptr};
    PyObject* values_[kMaxParameters];  // borrowed from the caller, or a default
    std::vector<py::object> kept_;
};

using Body = PyObject* (*)(Call&);  // returns a new reference
using Entry = PyObject* (*)(PyObject* self, PyObject* const* args, Py_ssize_t positional, PyObject* keywords);

PyObject* invoke(const Signature& signature, Body body, PyObject* const* args, Py_ssize_t positional,
                 PyObject* keywords);

// Adds to `module` the function that `doc` describes ("name(parameters)\n--\n\ntext"). Fills `signature` and
// `def`, which must live as long as the interpreter.
void add_to_module(py::module_& module, const char* doc, Entry entry, Signature& signature, PyMethodDef& def);

template <Body body>
void add_function(py::module_& module, const char* doc, Places places = Places::host) {
    static Signature signature;
    signature.places = places;
    static PyMethodDef def;
    constexpr auto entry = [](PyObject*, PyObject* const* args, Py_ssize_t positional, PyObject* keywords) {
        return invoke(signature, body, args, positional, keywords);
    };
    add_to_module(module, doc, entry, signature, def);
}

}  // namespace fastnn::bind
