#include "bind/on_device.h"

#include <pybind11/numpy.h>

#include <new>

#include "bind/device_arrays.h"
#include "bind/run.h"

namespace fastnn::bind {
namespace {

py::object libraries(const char* function) { return py::module_::import("fastnn._libraries").attr(function); }

[[noreturn]] void refuse_pair(const Call& call, const Value& host, const Value& device) {
    call.type_error(host, "lies in host memory and '" + device.label() +
                              "' on a CUDA device; pass arrays of one place, such as cupy.asarray(" +
                              host.label() + ") or torch.as_tensor(" + host.label() + ").cuda()");
}

// Arrays of NumPy wherever they stand among the arguments: the checker takes them without a further look.
void refuse_ndarrays(const Call& call, const Value& device) {
    PyTypeObject* const ndarray = py::detail::npy_api::get().PyArray_Type_;
    for (int i = 0; i < call.count(); ++i) {
        Value value = call[i];
        PyObject* const given = value.object;
        if (PyObject_TypeCheck(given, ndarray)) refuse_pair(call, value, device);
        if (!PyTuple_Check(given) && !PyList_Check(given)) continue;
        for (value.index = 0; value.index < PySequence_Fast_GET_SIZE(given); ++value.index) {
            value.object = PySequence_Fast_GET_ITEM(given, value.index);
            if (PyObject_TypeCheck(value.object, ndarray)) refuse_pair(call, value, device);
        }
    }
}

py::handle item(const py::object& place, int number) { return PyTuple_GET_ITEM(place.ptr(), number); }

}  // namespace

void set_cuda_error(const std::string& text) {
    const py::object error = py::module_::import("fastnn.cuda").attr("CudaError");
    PyErr_SetString(error.ptr(), text.c_str());
}

void Call::leave_device() { delete device_; }

OnDevice::OnDevice(Call& call, const Value& first, const py::object& place)
    : function_(call.function()),
      first_(first),
      cuda_(*cuda_kernels_of(py::reinterpret_borrow<py::capsule>(item(place, 0)))),
      stream_(item(place, 1).cast<std::uintptr_t>()),
      device_(item(place, 2).cast<long>()) {}

// The stream waits for nobody, and memory given back is used again only by what is queued behind.
OnDevice::~OnDevice() {
    for (void* memory : memory_) cuda_.give_back(memory, handle());
}

void OnDevice::enter(Call& call, const Value& value, long device) {
    if (call.places() == Places::host) {
        call.type_error(value, "lies on a CUDA device, where " + call.function() +
                                   "() has no kernel; copy it to host memory first (PyTorch: " +
                                   value.label() + ".cpu())");
    }
    if (call.device() == nullptr) {
        const py::object place = libraries("place_of")(py::handle(value.object));
        if (py::isinstance<py::str>(place)) {
            call.type_error(value,
                            "lies on a CUDA device, which cannot be used here: " + place.cast<std::string>() +
                                "; copy it to host memory first (PyTorch: " + value.label() + ".cpu())");
        }
        if (call.foreign().object != nullptr) refuse_pair(call, call.foreign(), value);
        refuse_ndarrays(call, value);
        call.enter_device(new OnDevice(call, value, place));
    } else if (Py_TYPE(value.object) != Py_TYPE(call.device()->first_.object)) {
        const auto stream = libraries("stream_of")(py::handle(value.object)).cast<std::uintptr_t>();
        call.device()->check_stream(call, value, stream);
    }
    const long current = call.device()->device_;
    if (device >= 0 && current >= 0 && device != current) {
        call.value_error(value,
                         "lies on CUDA device " + std::to_string(device) + ", and device " +
                             std::to_string(current) + " is current; call inside \"with " +
                             "cupy.cuda.Device(n)\" or \"with torch.cuda.device(n)\", all arrays on n");
    }
}

void OnDevice::check_stream(const Call& call, const Value& value, std::uintptr_t stream) const {
    if (stream == stream_) return;
    call.value_error(value, "is ordered on another stream than '" + first_.label() +
                                "', and nobody would wait; make both libraries' current stream one");
}

void OnDevice::refuse_copy(const Call& call, const Value& value, const std::string& layout) const {
    call.value_error(value, "must be C-contiguous on a CUDA device (of a matrix rows may lie apart), " +
                                layout + "; pass cupy.ascontiguousarray(" + value.label() +
                                ") or, in PyTorch, " + value.label() + ".contiguous()");
}

void OnDevice::refuse_host(const Call& call, const Value& value) const { refuse_pair(call, value, first_); }

void OnDevice::check(int status) const {
    if (status == 0) return;
    set_cuda_error(function_ + "(): CUDA says: " + cuda_.message(status));
    throw py::error_already_set();
}

void* OnDevice::take_bytes(Index bytes) {
    memory_.reserve(memory_.size() + 1);
    void* memory = nullptr;
    check(cuda_.borrow(&memory, bytes, handle()));
    memory_.push_back(memory);
    return memory;
}

void OnDevice::download(void* to, const void* from, Index bytes) {
    int status = 0;
    without_gil(1e9, [&] {
        status = cuda_.to_host(to, from, bytes, handle());
        if (status == 0) status = cuda_.wait(handle());
        return true;
    });
    check(status);
}

py::object OnDevice::empty(const Call& call, const Value& value, const Shape& shape, Dtype dtype) const {
    py::tuple sizes(shape.nd);
    for (int i = 0; i < shape.nd; ++i) sizes[static_cast<std::size_t>(i)] = shape.dims[i];
    const py::object made = libraries("empty_beside")(py::handle(first_.object), sizes, name_of(dtype));
    if (made.is_none()) {
        call.type_error(first_,
                        std::string("is neither CuPy's nor PyTorch's, so no array can be made for '") +
                            value.label() + "'; pass memory for it, or CuPy arrays");
    }
    return made;
}

}  // namespace fastnn::bind
