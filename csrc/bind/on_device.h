// A call whose arrays lie on a CUDA device. The checker enters it with the first such array it meets (host
// calls never come here): from then on every array must lie there, none is copied, new ones are made by the
// caller's own library, and kernels are launched on its stream in place of the team's. docs/cuda.md says
// which stream that is.
#pragma once

#include <vector>

#include "bind/arrays.h"
#include "core/cuda_kernels.h"
#include "core/team.h"

namespace fastnn::bind {

class OnDevice {
 public:
    // `value` lies on the CUDA device of this number (-1: nobody says), so the whole call must; raises where
    // it cannot.
    static void enter(Call& call, const Value& value, long device);
    ~OnDevice();
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;

    std::uintptr_t stream() const { return stream_; }
    // `value` says that it is ordered on this stream.
    void check_stream(const Call& call, const Value& value, std::uintptr_t stream) const;
    [[noreturn]] void refuse_host(const Call& call, const Value& value) const;
    [[noreturn]] void refuse_copy(const Call& call, const Value& value, const std::string& layout) const;

    template <class Args>
    void launch(const Args& args) {
        check(cuda_.entry<Args>()(args, handle()));
    }
    // Memory of the device until the call ends; the stream gives it back behind the kernels.
    template <class T>
    T* take(Index count) {
        return static_cast<T*>(take_bytes(count * Index{sizeof(T)}));
    }
    template <class T>
    T* upload(const T* from, Index count) {
        const Index bytes = count * Index{sizeof(T)};
        T* const to = take<T>(count);
        check(cuda_.to_device(to, from, bytes, bytes, 1, handle()));
        return to;
    }
    // From the device, when all that was launched is done.
    void download(void* to, const void* from, Index bytes);
    // A new array of the library whose array came first; `value`: what it is for.
    py::object empty(const Call& call, const Value& value, const Shape& shape, Dtype dtype) const;

 private:
    OnDevice(Call& call, const Value& first, const py::object& place);
    void* take_bytes(Index bytes);
    void check(int status) const;
    void* handle() const { return reinterpret_cast<void*>(stream_); }

    const std::string function_;
    const Value first_;
    const CudaKernels& cuda_;
    std::uintptr_t stream_;
    long device_;
    std::vector<void*> memory_;
};

// fastnn.CudaError becomes the current exception.
void set_cuda_error(const std::string& text);

// Partial sums and the like, until the call ends.
inline float* workspace_of(const Call& call, Index floats) {
    return call.device() != nullptr ? call.device()->take<float>(floats) : workspace(floats);
}

}  // namespace fastnn::bind
