#include "bind/dlpack.h"

#include <iterator>

#include "bind/on_device.h"
#include "bind/scalars.h"
#include "bind/views.h"

namespace fastnn::bind {
namespace {

using namespace dlpack;
using Npy = py::detail::npy_api;

constexpr std::uint32_t kMajor = 1, kMinor = 3;  // the newest version that is read

// ---- Python's side of the protocol ---------------------------------------------------------------------

PyObject* interned(const char* text) {
    PyObject* name = PyUnicode_InternFromString(text);
    if (name == nullptr) throw py::error_already_set();
    return name;
}

struct Names {
    PyObject* exchange_api = interned("__dlpack_c_exchange_api__");
    PyObject* device = interned("__dlpack_device__");
    PyObject* dlpack = interned("__dlpack__");
    PyObject* requires_grad = interned("requires_grad");
    PyObject* is_neg = interned("is_neg");
    PyObject* version = py::make_tuple("max_version").release().ptr();
    PyObject* version_and_stream = py::make_tuple("max_version", "stream").release().ptr();
    PyObject* stream = py::make_tuple("stream").release().ptr();
    PyObject* newest = py::make_tuple(kMajor, kMinor).release().ptr();
};

const Names& names() {
    static const Names all;
    return all;
}

py::object attribute_or_null(PyObject* object, PyObject* name) {
    PyObject* found = nullptr;
#if PY_VERSION_HEX >= 0x030d0000
    const int rc = PyObject_GetOptionalAttr(object, name, &found);
#else
    const int rc = _PyObject_LookupAttr(object, name, &found);
#endif
    if (rc < 0) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(found);
}

bool is_true(PyObject* object) {
    const int truth = PyObject_IsTrue(object);
    if (truth < 0) throw py::error_already_set();
    return truth == 1;
}

// What memory alone does not say of a PyTorch tensor. Its C functions export both kinds without a word.
void refuse_lazy_tensor(const Call& call, const Value& value) {
    const py::object requires_grad = attribute_or_null(value.object, names().requires_grad);
    if (!requires_grad) return;  // no tensor of that kind
    if (is_true(requires_grad.ptr())) {
        call.type_error(value,
                        "is a tensor that requires grad, and autograd would not see the call; pass "
                        "p.detach() for such a tensor p");
    }
    const py::object is_neg = attribute_or_null(value.object, names().is_neg);
    if (is_neg && is_true(owned(PyObject_CallNoArgs(is_neg.ptr())).ptr())) {
        call.value_error(value,
                         "is a view with the negative bit set; pass " + value.label() + ".resolve_neg()");
    }
}

// ---- owning what a producer hands over -----------------------------------------------------------------

constexpr const char* kOwner = "fastnn_dltensor";

template <class M>
void destroy(M* managed) {
    if (managed->deleter != nullptr) managed->deleter(managed);
}

template <class M>
void destroy_owner(PyObject* capsule) {
    const py::error_scope scope;  // a deleter may run Python
    destroy(static_cast<M*>(PyCapsule_GetPointer(capsule, kOwner)));
}

// A capsule that calls the deleter when it dies.
template <class M>
py::object own(M* managed) {
    PyObject* owner = PyCapsule_New(managed, kOwner, destroy_owner<M>);
    if (owner == nullptr) {
        const py::error_scope scope;
        destroy(managed);
    }
    return owned(owner);
}

struct Export {
    py::object owner{};
    const Tensor* tensor = nullptr;
    std::uint64_t flags = 0;
};

Export versioned(const Call& call, const Value& value, ManagedVersioned* managed) {
    Export e{.owner = own(managed), .tensor = &managed->tensor, .flags = managed->flags};
    if (managed->version.major != kMajor) {
        call.type_error(value, "speaks DLPack " + std::to_string(managed->version.major) + "." +
                                   std::to_string(managed->version.minor) +
                                   ", and fastnn reads versions 1.x and older; pass an ndarray");
    }
    return e;
}

// The producer's C functions, or null.
const ExchangeApi* exchange_api(PyObject* object) {
    constexpr const char* kName = "dlpack_exchange_api";
    const py::object capsule =
        attribute_or_null(reinterpret_cast<PyObject*>(Py_TYPE(object)), names().exchange_api);
    if (!capsule || PyCapsule_IsValid(capsule.ptr(), kName) == 0) return nullptr;
    auto* header = static_cast<ExchangeHeader*>(PyCapsule_GetPointer(capsule.ptr(), kName));
    while (header != nullptr && header->version.major != kMajor) header = header->previous;
    return reinterpret_cast<const ExchangeApi*>(header);
}

// Through the C functions (PyTorch 2.10: a tenth of the time); empty where they do not do it.
Export fast_export(const Call& call, const Value& value) {
    const ExchangeApi* api = exchange_api(value.object);
    if (api == nullptr) return {};
    refuse_lazy_tensor(call, value);
    ManagedVersioned* managed = nullptr;
    if (api->export_tensor(value.object, &managed) != 0 || managed == nullptr) {
        PyErr_Clear();  // the Python protocol says it in better words
        return {};
    }
    return versioned(call, value, managed);
}

bool on_host(const Device& at) {  // pinned memory is host memory
    return at.type == kCpu || at.type == kCudaHost || at.type == kRocmHost;
}

// The array must lie where those before it do.
void meet(Call& call, const Value& value, const Device& at) {
    if (at.type == kCuda || at.type == kCudaManaged) return OnDevice::enter(call, value, at.id);
    if (on_host(at)) {
        if (call.device() != nullptr) call.device()->refuse_host(call, value);
        return call.meet_foreign(value);
    }
    const std::string device = at.type == kRocm    ? "a ROCm device"
                               : at.type == kMetal ? "a Metal device"
                                                   : "a device of DLPack type " + std::to_string(at.type);
    call.type_error(value, "lies on " + device + ", where fastnn has no kernels; copy it to host memory " +
                               "first (PyTorch: " + value.label() + ".cpu())");
}

// From `__dlpack_device__()`, asked first: a device array may copy or wait in `__dlpack__`.
Device device_of(const Call& call, const Value& value, const py::object& method) {
    const py::object device = owned(PyObject_CallNoArgs(method.ptr()));
    if (!PyTuple_Check(device.ptr()) || PyTuple_GET_SIZE(device.ptr()) != 2) {
        call.type_error(value, "must return a pair from __dlpack_device__, got " + type_name(device.ptr()));
    }
    std::int32_t pair[2];
    for (int i = 0; i < 2; ++i) {
        const long number = PyLong_AsLong(PyTuple_GET_ITEM(device.ptr(), i));
        if (number == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
        pair[i] = static_cast<std::int32_t>(number);
    }
    return {pair[0], pair[1]};
}

// On a device the producer is told the stream that is going to read; 0 is not allowed to be one.
py::object capsule_of(const Call& call, const py::object& dlpack) {
    const bool device = call.device() != nullptr;
    py::object stream;
    if (device) stream = py::int_(call.device()->stream() == 0 ? 1 : call.device()->stream());
    PyObject* arguments[] = {nullptr, names().newest, stream.ptr()};
    PyObject* capsule = PyObject_Vectorcall(dlpack.ptr(), arguments + 1, PY_VECTORCALL_ARGUMENTS_OFFSET,
                                            device ? names().version_and_stream : names().version);
    if (capsule == nullptr && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();  // a producer from before version 1 does not know max_version
        arguments[1] = nullptr;
        capsule = PyObject_Vectorcall(dlpack.ptr(), arguments + 2, PY_VECTORCALL_ARGUMENTS_OFFSET,
                                      device ? names().stream : nullptr);
    }
    return owned(capsule);
}

// The content of a capsule that nobody has taken, which is taken from it; null for another capsule.
template <class M>
M* take(const py::object& capsule, const char* name, const char* used) {
    if (PyCapsule_IsValid(capsule.ptr(), name) == 0) return nullptr;
    auto* managed = static_cast<M*>(PyCapsule_GetPointer(capsule.ptr(), name));
    if (PyCapsule_SetName(capsule.ptr(), used) != 0) throw py::error_already_set();
    return managed;
}

Export python_export(Call& call, const Value& value) {
    const py::object device = attribute_or_null(value.object, names().device);
    const py::object dlpack = attribute_or_null(value.object, names().dlpack);
    if (!device || !dlpack || PyType_Check(value.object)) return {};
    const Device at = device_of(call, value, device);
    if (!on_host(at) || call.device() != nullptr) meet(call, value, at);
    refuse_lazy_tensor(call, value);
    const py::object capsule = capsule_of(call, dlpack);
    if (auto* m = take<ManagedVersioned>(capsule, "dltensor_versioned", "used_dltensor_versioned")) {
        return versioned(call, value, m);
    }
    if (auto* m = take<Managed>(capsule, "dltensor", "used_dltensor")) {
        return {.owner = own(m), .tensor = &m->tensor};
    }
    if (PyCapsule_IsValid(capsule.ptr(), "used_dltensor_versioned") != 0 ||
        PyCapsule_IsValid(capsule.ptr(), "used_dltensor") != 0) {
        call.value_error(value, "returned a capsule from __dlpack__ that was used before; each call must " +
                                    std::string("make a new one"));
    }
    call.type_error(value, "must return a DLPack capsule from __dlpack__, got " + type_name(capsule.ptr()));
}

// ---- its dtype -----------------------------------------------------------------------------------------

struct Kind {
    DataTypeCode code;
    std::uint8_t bits;
    int numpy;
};

constexpr int kNumpyHalf = 23;  // pybind11 does not name it
constexpr Kind kKinds[] = {
    {kFloat, 32, Npy::NPY_FLOAT_},    {kFloat, 64, Npy::NPY_DOUBLE_},     {kFloat, 16, kNumpyHalf},
    {kInt, 64, Npy::NPY_LONG_},       {kInt, 32, Npy::NPY_INT_},          {kInt, 16, Npy::NPY_SHORT_},
    {kInt, 8, Npy::NPY_BYTE_},        {kUInt, 64, Npy::NPY_ULONG_},       {kUInt, 32, Npy::NPY_UINT_},
    {kUInt, 16, Npy::NPY_USHORT_},    {kUInt, 8, Npy::NPY_UBYTE_},        {kBool, 8, Npy::NPY_BOOL_},
    {kComplex, 64, Npy::NPY_CFLOAT_}, {kComplex, 128, Npy::NPY_CDOUBLE_},
};

std::string name_of(const DataType& d) {
    const char* stems[] = {"int", "uint", "float", "handle", "bfloat", "complex", "bool"};
    std::string text = d.code < std::size(stems) ? stems[d.code] : "code " + std::to_string(d.code) + " of ";
    text += std::to_string(d.bits);
    return d.lanes == 1 ? text : text + " in " + std::to_string(d.lanes) + " lanes";
}

py::object numpy_descr(const Call& call, const Value& value, const DataType& d, Dtypes dtypes) {
    for (const Kind& kind : kKinds) {
        if (kind.code != d.code || kind.bits != d.bits || d.lanes != 1) continue;
        return owned(Npy::get().PyArray_DescrFromType_(kind.numpy));
    }
    if (dtypes == Dtypes::bfloat16_too && d.code == kBfloat && d.bits == 16 && d.lanes == 1) {
        return py::reinterpret_borrow<py::object>(call.device() != nullptr ? device_bfloat16_descr()
                                                                           : bfloat16_descr(call, value));
    }
    call.type_error(value, "has dtype " + name_of(d) +
                               ", which this function does not read; convert it to float32 " +
                               "(PyTorch: " + value.label() + ".float())");
}

}  // namespace

PyObject* array_of_dlpack(Call& call, const Value& value, bool written, Dtypes dtypes) {
    Export e = fast_export(call, value);
    if (!e.owner) e = python_export(call, value);
    if (!e.owner) return nullptr;
    const Tensor& t = *e.tensor;
    meet(call, value, t.device);
    if (written && (e.flags & kIsCopy) != 0) {
        call.value_error(value,
                         "is exported by DLPack as a copy, so what is written would be lost; pass an " +
                             std::string("array that shares its memory"));
    }
    if (t.ndim > 0 && t.shape == nullptr) {
        call.value_error(value,
                         "has a broken DLPack export: ndim " + std::to_string(t.ndim) + " and no shape");
    }
    const Memory memory{.nd = t.ndim,
                        .shape = t.shape,
                        .strides = t.strides,
                        .stride_unit = t.dtype.bits / 8,
                        .start = reinterpret_cast<std::uintptr_t>(t.data),
                        .offset = t.byte_offset,
                        .writable = (e.flags & kReadOnly) == 0};
    return view_of(call, value, memory, numpy_descr(call, value, t.dtype, dtypes), e.owner);
}

}  // namespace fastnn::bind
