#include <cmath>

#include "bind/arrays.h"
#include "bind/bind.h"
#include "bind/run.h"
#include "bind/scalars.h"
#include "core/dispatch.h"
#include "core/dropout.h"

namespace fastnn::bind {
namespace {

constexpr const char* kDropoutDoc = R"(dropout(x, p, *, seed, step, out=None)
--

Dropout: each element becomes 0 with probability ``p`` and is divided by ``1 - p`` otherwise, which keeps its mean.

Which elements become 0 is a pure function of ``seed``, ``step`` and the element's place in ``x`` (in C order): the
same for any number of threads, any instruction set and any memory layout. So the gradient is the same call on
``dy``, ``dropout(dy, p, seed=seed, step=step)``, and no mask is kept.

Any number of dimensions. ``p`` is from 0 to 1 and counts in steps of 2**-32; 0 gives ``x``, 1 gives zeros. ``seed``
and ``step`` are ints from 0. ``out`` has the shape of ``x``, is C-contiguous, and may be exactly ``x``.
Returns ``out``, or a new float32 array.

A dropped element is +0 even where ``x`` is NaN or infinite; PyTorch multiplies by 0 there and keeps the NaN.
Srivastava et al. 2014, scaled in training ("inverted") as everywhere today.

Raises TypeError for anything but a float32 array and for a ``seed`` or ``step`` that is no int, ValueError for a
``p``, ``seed`` or ``step`` out of range, a wrong shape, partial overlap or an ``out`` that cannot be written in place.

>>> import numpy as np
>>> from fastnn import ops
>>> ops.dropout(np.ones(8, dtype=np.float32), 0.5, seed=0, step=0)
array([2., 0., 2., 2., 2., 0., 0., 0.], dtype=float32)
)";

PyObject* dropout(Call& call) {
    enum { kX, kP, kSeed, kStep, kOut };
    const double p = in_unit_range(call, call[kP]);
    const std::int64_t seed = integer(call, call[kSeed], 0);
    const auto step = static_cast<std::uint64_t>(integer(call, call[kStep], 0));
    const Input x = read_flat(call, call[kX]);
    Output out = write_flat(call, call[kOut], x.shape);
    if (out.data != x.data) check_apart(call, out.region, x.region);
    DropoutArgs args = dropout_mask(p, static_cast<std::uint64_t>(seed));
    args.x = x.data;
    args.y = out.data;
    args.n = out.cols;
    args.step = call.device() != nullptr ? call.device()->upload(&step, 1) : &step;
    if (args.n > 0) {
        Tasks tasks(call);
        tasks.add(kernels().dropout, args);
        tasks.run(stream_ns(3.0 * static_cast<double>(args.n)));
    }
    return out.release();
}

}  // namespace

void bind_dropout(py::module_& m) { add_function<dropout>(m, kDropoutDoc, Places::device_too); }

}  // namespace fastnn::bind
