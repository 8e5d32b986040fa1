// Arrays of other libraries through DLPack: read where they lie, updated in place, never copied here.
//
// The structs are DLPack's public ABI, versions 1.0 to 1.3 (dmlc/dlpack, include/dlpack/dlpack.h), the
// protocol is that of https://dmlc.github.io/dlpack/latest/python_spec.html. Memory of the host is accepted,
// and that of a CUDA device, where the call enters it.
#pragma once

#include <cstdint>

#include "bind/dtypes.h"
#include "bind/fastcall.h"

namespace fastnn::bind {

namespace dlpack {

struct Version {
    std::uint32_t major, minor;
};

enum DeviceType : std::int32_t {
    kCpu = 1,
    kCuda = 2,
    kCudaHost = 3,
    kMetal = 8,
    kRocm = 10,
    kRocmHost = 11,
    kCudaManaged = 13
};

struct Device {
    std::int32_t type;  // a DeviceType, or one of those that are not host memory
    std::int32_t id;
};

enum DataTypeCode : std::uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kComplex = 5, kBool = 6 };

struct DataType {
    std::uint8_t code, bits;
    std::uint16_t lanes;
};

struct Tensor {
    void* data;  // may be null if the size is 0
    Device device;
    std::int32_t ndim;
    DataType dtype;
    std::int64_t* shape;    // may be null if ndim is 0
    std::int64_t* strides;  // in elements; null: compact, in C order
    std::uint64_t byte_offset;
};

struct Managed {  // in a capsule "dltensor"; has no flags, so nothing says whether it may be written
    Tensor tensor;
    void* context;
    void (*deleter)(Managed*);
};

inline constexpr std::uint64_t kReadOnly = 1, kIsCopy = 2;

struct ManagedVersioned {  // in a capsule "dltensor_versioned"; up to `flags` the same in every version
    Version version;
    void* context;
    void (*deleter)(ManagedVersioned*);
    std::uint64_t flags;
    Tensor tensor;
};

// Since 1.3: functions of the producer for C callers, in a capsule "dlpack_exchange_api" on the type.
struct ExchangeHeader {
    Version version;
    ExchangeHeader* previous;  // the same for an older major version, or null
};
struct ExchangeApi {
    ExchangeHeader header;
    void (*allocate)();
    int (*export_tensor)(void* object, ManagedVersioned** out);  // -1: with a Python exception
    void (*import_tensor)();
    void (*borrow_tensor)();
    void (*current_stream)();
};

}  // namespace dlpack

// An ndarray over the memory that `value` hands out, kept by the call with what keeps that memory alive; null
// if `value` does not speak DLPack. `written`: the caller wants to write to it, so a copy will not do;
// whether it may is the flag of the ndarray. An exception of the producer passes.
PyObject* array_of_dlpack(Call& call, const Value& value, bool written, Dtypes dtypes);

}  // namespace fastnn::bind
