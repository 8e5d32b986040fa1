#include "bind/fastcall.h"

#include <algorithm>
#include <new>
#include <stdexcept>
#include <string_view>

#include "bind/on_device.h"

namespace fastnn::bind {
namespace {

std::string quoted(const std::vector<std::string>& names) {  // 'a'; 'a' and 'b'; 'a', 'b', and 'c'
    std::string text;
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (i > 0) text += names.size() == 2 ? " and " : i + 1 == names.size() ? ", and " : ", ";
        text += "'" + names[i] + "'";
    }
    return text;
}

std::string plural(Py_ssize_t n, const std::string& noun) {
    return std::to_string(n) + " " + noun + (n == 1 ? "" : "s");
}

PyObject* literal(const std::string& text) {
    if (text == "None") return Py_None;
    if (text == "True") return Py_True;
    if (text == "False") return Py_False;
    py::object value;
    if (text.front() == '\'') {
        value = py::str(text.substr(1, text.size() - 2));
    } else if (text.find_first_of(".e") != std::string::npos) {
        value = py::float_(std::stod(text));
    } else {
        value = py::int_(std::stol(text));
    }
    return value.release().ptr();
}

void add_parameter(Signature& s, const std::string& text) {
    if (s.count == kMaxParameters) throw std::logic_error(s.name + "() has too many parameters");
    const std::size_t equals = text.find('=');
    PyObject* name = PyUnicode_InternFromString(text.substr(0, equals).c_str());
    if (name == nullptr) throw py::error_already_set();
    s.names[s.count] = name;
    s.texts[s.count] = PyUnicode_AsUTF8(name);
    s.defaults[s.count] = equals == std::string::npos ? nullptr : literal(text.substr(equals + 1));
    ++s.count;
}

void read_signature(Signature& s, std::string_view doc) {
    const std::size_t open = doc.find('(');
    const std::size_t close = doc.find(")\n--\n\n");
    if (open == doc.npos || close == doc.npos) throw std::logic_error("a docstring without a signature line");
    s.name = doc.substr(0, open);
    bool keyword_only = false;
    for (std::size_t at = open + 1; at < close;) {
        const std::size_t end = std::min(doc.find(", ", at), close);
        const std::string text(doc.substr(at, end - at));
        at = end + 2;
        if (text == "*") {
            keyword_only = true;
            continue;
        }
        add_parameter(s, text);
        if (!keyword_only) s.positional = s.count;
    }
}

}  // namespace

std::string utf8(PyObject* text) {
    const auto bytes =
        py::reinterpret_steal<py::object>(PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace"));
    if (!bytes) throw py::error_already_set();
    return PyBytes_AS_STRING(bytes.ptr());
}

std::string Value::label() const {
    return index < 0 ? std::string(name) : std::string(name) + "[" + std::to_string(index) + "]";
}

void Call::type_error(const Value& value, const std::string& problem) const {
    throw ArgumentError(PyExc_TypeError, function() + "(): '" + value.label() + "' " + problem);
}

void Call::value_error(const Value& value, const std::string& problem) const {
    throw ArgumentError(PyExc_ValueError, function() + "(): '" + value.label() + "' " + problem);
}

void Call::value_error(const std::string& problem) const {
    throw ArgumentError(PyExc_ValueError, function() + "(): " + problem);
}

void Call::parse(PyObject* const* args, Py_ssize_t positional, PyObject* keywords) {
    const Signature& s = signature_;
    if (positional > s.positional) too_many(positional);
    for (Py_ssize_t i = 0; i < positional; ++i) values_[i] = args[i];
    for (Py_ssize_t i = positional; i < s.count; ++i) values_[i] = nullptr;
    const Py_ssize_t named = keywords == nullptr ? 0 : PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t i = 0; i < named; ++i) {
        PyObject* keyword = PyTuple_GET_ITEM(keywords, i);
        const int parameter = keyword_index(keyword);
        if (values_[parameter] != nullptr) {
            throw ArgumentError(PyExc_TypeError,
                                s.name + "() got multiple values for argument '" + s.texts[parameter] + "'");
        }
        values_[parameter] = args[positional + i];
    }
    for (Py_ssize_t i = positional; i < s.count; ++i) {
        if (values_[i] == nullptr) values_[i] = s.defaults[i];
        if (values_[i] == nullptr) missing();
    }
}

int Call::keyword_index(PyObject* keyword) const {
    const Signature& s = signature_;
    for (int i = 0; i < s.count; ++i) {  // literal keywords are interned by the compiler
        if (s.names[i] == keyword) return i;
    }
    for (int i = 0; i < s.count; ++i) {
        if (PyUnicode_CompareWithASCIIString(keyword, s.texts[i]) == 0) return i;
    }
    throw ArgumentError(PyExc_TypeError,
                        s.name + "() got an unexpected keyword argument '" + utf8(keyword) + "'");
}

void Call::too_many(Py_ssize_t given) const {
    const Signature& s = signature_;
    int required = 0;
    while (required < s.positional && s.defaults[required] == nullptr) ++required;
    const std::string range = required < s.positional ? "from " + std::to_string(required) + " to " : "";
    throw ArgumentError(PyExc_TypeError,
                        s.name + "() takes " + range + plural(s.positional, "positional argument") + " but " +
                            std::to_string(given) + (given == 1 ? " was" : " were") + " given");
}

void Call::missing() const {
    const Signature& s = signature_;
    std::vector<std::string> positional, named;
    for (int i = 0; i < s.count; ++i) {
        if (values_[i] != nullptr || s.defaults[i] != nullptr) continue;
        (i < s.positional ? positional : named).emplace_back(s.texts[i]);
    }
    const bool first = !positional.empty();
    const std::vector<std::string>& names = first ? positional : named;
    const std::string noun = first ? "required positional argument" : "required keyword-only argument";
    throw ArgumentError(
        PyExc_TypeError,
        s.name + "() missing " + plural(static_cast<Py_ssize_t>(names.size()), noun) + ": " + quoted(names));
}

PyObject* invoke(const Signature& signature, Body body, PyObject* const* args, Py_ssize_t positional,
                 PyObject* keywords) {
    try {
        Call call(signature, args, positional, keywords);
        return body(call);
    } catch (const ArgumentError& e) {
        PyErr_SetString(e.type(), e.what());
    } catch (py::error_already_set& e) {
        e.restore();
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::invalid_argument& e) {
        PyErr_SetString(PyExc_ValueError, e.what());
    } catch (const DeviceError& e) {
        set_cuda_error(e.what());
    } catch (const std::exception& e) {
        PyErr_SetString(PyExc_RuntimeError, e.what());
    }
    return nullptr;
}

void add_to_module(py::module_& module, const char* doc, Entry entry, Signature& signature,
                   PyMethodDef& def) {
    read_signature(signature, doc);
    def.ml_name = signature.name.c_str();
    def.ml_meth = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(entry));
    def.ml_flags = METH_FASTCALL | METH_KEYWORDS;
    def.ml_doc = doc;
    // Users meet the function as fastnn.ops.<name>: that is the name repr, pickle and doctest must see.
    const py::str home("fastnn.ops");
    PyObject* function = PyCFunction_NewEx(&def, module.ptr(), home.ptr());
    if (function == nullptr) throw py::error_already_set();
    module.attr(def.ml_name) = py::reinterpret_steal<py::object>(function);
}

}  // namespace fastnn::bind
