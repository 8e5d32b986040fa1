// Operations that are one launch on a device.
#pragma once

#include <memory>
#include <vector>

#include "program/op.h"

namespace fastnn::program {

// The gradient of a layer's input takes the gradient of the activation in front of it, where nobody else
// reads it without; the gradient of a weight is formed beside that of its bias, the column sums of batch-norm
// and of its gradient beside the product in front, for which there may be buffers more. On a CPU neither
// pays: rows of the one are in the cache of the thread that has just formed them, and the others run side by
// side anyway. `loss` is the place of that operation, before and after. Returns the place that each had
// before.
std::vector<std::size_t> fuse(std::vector<std::unique_ptr<Op>>& ops, std::vector<Buffer>& buffers,
                              std::size_t& loss);

}  // namespace fastnn::program
