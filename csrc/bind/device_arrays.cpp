#include "bind/device_arrays.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <utility>

#include "bind/on_device.h"
#include "bind/views.h"

namespace fastnn::bind {
namespace {

struct TypeString {
    const char* name;
    Number number;
    Index size;
};
constexpr TypeString kTypeStrings[] = {
    {"<f4", Number::float32, 4}, {"<f8", Number::float64, 8}, {"|u1", Number::uint8, 1},
    {"|b1", Number::uint8, 1},   {"|i1", Number::int8, 1},    {"<i2", Number::int16, 2},
    {"<u2", Number::uint16, 2},  {"<i4", Number::int32, 4},   {"<u4", Number::uint32, 4},
    {"<i8", Number::int64, 8},   {"<u8", Number::uint64, 8}};

constexpr const char* kInterface = "__cuda_array_interface__";

py::object entry(const py::dict& interface, const char* name) {
    return interface.contains(name) ? py::object(interface[name]) : py::none();
}

}  // namespace

CudaInterface cuda_interface_of(py::handle object) {
    try {
        const auto given = object.attr(kInterface).cast<py::dict>();
        const auto data = given["data"].cast<std::pair<std::uintptr_t, bool>>();
        CudaInterface found{.type = given["typestr"].cast<std::string>(),
                            .shape = given["shape"].cast<std::vector<std::int64_t>>(),
                            .strides = {},
                            .data = data.first,
                            .read_only = data.second,
                            .masked = !entry(given, "mask").is_none(),
                            .stream = {}};
        if (const py::object strides = entry(given, "strides"); !strides.is_none()) {
            found.strides = strides.cast<std::vector<std::int64_t>>();
            if (found.strides.size() != found.shape.size()) throw py::cast_error();
        }
        if (const py::object stream = entry(given, "stream"); !stream.is_none()) {
            const auto number = stream.cast<std::uintptr_t>();
            found.stream = number == 1 ? 0 : number;  // the default stream in words of the protocol
        }
        return found;
    } catch (const py::cast_error&) {
    } catch (py::error_already_set& e) {
        if (!e.matches(PyExc_KeyError)) throw;
    }
    throw std::invalid_argument(std::string("an array on the device has a broken ") + kInterface);
}

PyObject* array_of_interface(Call& call, const Value& value) {
    const py::handle object(value.object);
    if (PyType_Check(value.object) || !is_device_array(object)) return nullptr;
    OnDevice::enter(call, value, -1);
    CudaInterface found;
    try {
        found = cuda_interface_of(object);
    } catch (const std::invalid_argument&) {
        call.type_error(value, std::string("has a broken ") + kInterface);
    }
    if (found.masked) call.type_error(value, "has a mask, which would be ignored; pass an array without one");
    if (found.stream) call.device()->check_stream(call, value, *found.stream);
    // The interface has no word for bfloat16: two bytes, and the array's own dtype says what they are.
    py::object type = py::str(found.type);
    if (found.type.ends_with("V2") && py::hasattr(object, "dtype")) type = object.attr("dtype");
    PyObject* descr = nullptr;
    if (py::detail::npy_api::get().PyArray_DescrConverter_(type.ptr(), &descr) != 1) {
        PyErr_Clear();
        call.type_error(value, "has type " + found.type + ", which is unknown; convert it to float32");
    }
    const Memory memory{.nd = static_cast<int>(found.shape.size()),
                        .shape = found.shape.data(),
                        .strides = found.strides.empty() ? nullptr : found.strides.data(),
                        .stride_unit = 1,
                        .start = found.data,
                        .offset = 0,
                        .writable = !found.read_only};
    return view_of(call, value, memory, owned(descr), py::reinterpret_borrow<py::object>(object));
}

bool is_device_array(py::handle object) { return py::hasattr(object, kInterface); }

DeviceArray device_array(py::handle object) {
    if (!is_device_array(object))
        throw std::invalid_argument("an array must be on the device, got " +
                                    py::str(py::type::handle_of(object)).cast<std::string>());
    const CudaInterface found = cuda_interface_of(object);
    DeviceArray array;
    Index size = 0;
    for (const TypeString& kind : kTypeStrings) {
        if (found.type != kind.name) continue;
        array.number = kind.number;
        size = kind.size;
    }
    if (size == 0)
        throw std::invalid_argument("an array on the device has type " + found.type + ", which is unknown");
    array.data = reinterpret_cast<void*>(found.data);
    array.shape = found.shape;
    array.strides = found.strides;
    Index inside = size;
    for (std::size_t i = found.strides.size(); i-- > 0;) {
        array.contiguous = array.contiguous && (array.shape[i] == 1 || array.strides[i] == inside);
        inside *= array.shape[i];
        if (array.strides[i] % size != 0)
            throw std::invalid_argument("an array on the device is not aligned");
        array.strides[i] /= size;
    }
    return array;
}

}  // namespace fastnn::bind
