#include "bind/device_arrays.h"

#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace fastnn::bind {
namespace {

struct TypeString {
    const char* name;  // as NumPy's typestr
    Number number;
    Index size;
};
constexpr TypeString kTypeStrings[] = {
    {"<f4", Number::float32, 4}, {"<f8", Number::float64, 8}, {"|u1", Number::uint8, 1},
    {"|b1", Number::uint8, 1},   {"|i1", Number::int8, 1},    {"<i2", Number::int16, 2},
    {"<u2", Number::uint16, 2},  {"<i4", Number::int32, 4},   {"<u4", Number::uint32, 4},
    {"<i8", Number::int64, 8},   {"<u8", Number::uint64, 8}};

}  // namespace

bool is_device_array(py::handle object) { return py::hasattr(object, "__cuda_array_interface__"); }

DeviceArray device_array(py::handle object) {
    if (!is_device_array(object))
        throw std::invalid_argument("an array must be on the device, got " +
                                    py::str(py::type::handle_of(object)).cast<std::string>());
    const auto interface = object.attr("__cuda_array_interface__").cast<py::dict>();
    const auto type = interface["typestr"].cast<std::string>();
    DeviceArray array;
    Index size = 0;
    for (const TypeString& kind : kTypeStrings) {
        if (type != kind.name) continue;
        array.number = kind.number;
        size = kind.size;
    }
    if (size == 0)
        throw std::invalid_argument("an array on the device has type " + type + ", which is unknown");
    const auto data = interface["data"].cast<std::pair<std::uintptr_t, bool>>();
    array.data = reinterpret_cast<void*>(data.first);
    array.shape = interface["shape"].cast<std::vector<Index>>();
    const py::object strides = interface.contains("strides") ? py::object(interface["strides"]) : py::none();
    if (strides.is_none()) return array;
    array.strides = strides.cast<std::vector<Index>>();
    Index inside = size;
    for (std::size_t i = array.shape.size(); i-- > 0;) {
        array.contiguous = array.contiguous && (array.shape[i] == 1 || array.strides[i] == inside);
        inside *= array.shape[i];
        if (array.strides[i] % size != 0)
            throw std::invalid_argument("an array on the device is not aligned");
        array.strides[i] /= size;
    }
    return array;
}

}  // namespace fastnn::bind
