// A program with the arrays it points into, made from what `fastnn._program` lowers a network to.
#pragma once

#include <pybind11/numpy.h>

#include <memory>
#include <optional>
#include <vector>

#include "bind/bound_update.h"
#include "bind/fastcall.h"
#include "program/device_program.h"

namespace fastnn::bind {

class BoundProgram {
 public:
    // buffers: (per_row, fixed); ops: ("kind", fields...) in the order in which csrc/program lists them;
    // chains: see program.h (a device has none);
    // update: none of a forward and its loss alone; kernels: those of `_cuda` where all arrays lie on the
    // device, else none; tf32: there products of float32 round to it.
    BoundProgram(const py::list& buffers, const py::list& ops, bool chains, std::size_t loss,
                 const std::shared_ptr<BoundUpdate>& update, const std::optional<py::capsule>& kernels,
                 bool tf32);
    // A forward alone, on the CPU.
    BoundProgram(const py::list& buffers, const py::list& ops, bool chains, program::Ref pred);

    program::Program& program() { return *program_; }
    BoundUpdate* update() { return update_.get(); }
    program::DeviceProgram& on_device() { return dynamic_cast<program::DeviceProgram&>(*program_); }
    Index columns() const { return columns_; }  // floats of a row of the batch
    std::size_t groups() { return program_->update().groups.size(); }
    // The masks of a step: `forwards` holds the number of training forwards of each dropout layer so far.
    void set_masks(const std::vector<std::uint64_t>& forwards, std::uint64_t more);
    bool shares_parameters(BoundProgram& other);

 private:
    std::vector<program::Buffer> buffers_of(const py::list& given);
    std::vector<std::unique_ptr<program::Op>> ops_of(const py::list& given);
    std::unique_ptr<program::Op> make(const py::tuple& given);

    Index columns_ = 0;
    std::vector<program::Dropout*> dropouts_;
    KeptArrays arrays_;
    std::shared_ptr<BoundUpdate> update_;  // none of a forward alone
    std::unique_ptr<program::Program> program_;
};

// Nobody else may use the program or its parameters until this goes.
class InUse {
 public:
    explicit InUse(BoundProgram& bound);
    ~InUse();
    InUse(const InUse&) = delete;
    InUse& operator=(const InUse&) = delete;

 private:
    BoundProgram& bound_;
    std::optional<UpdateInUse> update_;  // a forward alone has none
};

}  // namespace fastnn::bind
