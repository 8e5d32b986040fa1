// A program with the arrays it points into, made from what `fastnn._program` lowers a network to.
#pragma once

#include <pybind11/numpy.h>

#include <memory>
#include <optional>
#include <vector>

#include "bind/fastcall.h"
#include "program/program.h"

namespace fastnn::bind {

class BoundProgram {
 public:
    // buffers: (per_row, fixed); ops: ("kind", fields...) in the order in which csrc/program lists them;
    // update: (rule, groups, clip, limit, floor, refuse), see `make_update`.
    BoundProgram(const py::list& buffers, const py::list& ops, std::size_t loss, const py::tuple& update);

    program::Program& program() { return *program_; }
    Index columns() const { return columns_; }  // floats of a row of the batch
    std::size_t groups() { return program_->update().groups.size(); }
    // The masks of a step: `forwards` holds the number of training forwards of each dropout layer so far.
    void set_masks(const std::vector<std::uint64_t>& forwards, std::uint64_t more);
    bool shares_parameters(BoundProgram& other);

 private:
    float* array(py::handle object);
    std::unique_ptr<program::Op> make(const py::tuple& given);
    std::unique_ptr<program::Update> make_update(const py::tuple& given);

    std::optional<program::Program> program_;
    Index columns_ = 0;
    std::vector<program::Dropout*> dropouts_;
    std::vector<py::array_t<float>> kept_;
};

}  // namespace fastnn::bind
