#include <pybind11/numpy.h>

#include "bind/bind.h"
#include "bind/run.h"
#include "bind/samples.h"
#include "bind/scalars.h"
#include "core/rows.h"
#include "core/shuffle.h"

namespace fastnn::bind {
namespace {

using Npy = py::detail::npy_api;

constexpr const char* kTakeRowsDoc = R"(take_rows(x, y, order, first, last)
--

The rows ``order[first:last]`` of both, as new arrays; as many rows behind them are fetched into the cache.
)";

// A new array of rows like these.
py::object rows_like(const Value& value, Index count) {
    const auto* a = reinterpret_cast<const ArrayStruct*>(value.object);
    Py_ssize_t dims[kMaxDimensions];
    std::copy(a->dimensions, a->dimensions + a->nd, dims);
    dims[0] = count;
    const Npy& api = Npy::get();
    Py_INCREF(a->descr);  // the new array takes a reference
    return owned(
        api.PyArray_NewFromDescr_(api.PyArray_Type_, a->descr, a->nd, dims, nullptr, nullptr, 0, nullptr));
}

PyObject* take_rows(Call& call) {
    enum { kX, kY, kOrder, kFirst, kLast };
    const DataRows order = read_any_rows(call, call[kOrder]);
    if (order.number != Number::int64 || order.cols != 1 || order.row != 1)
        call.type_error(call[kOrder], "must be contiguous int64");
    const std::int64_t first = integer(call, call[kFirst], 0), last = integer(call, call[kLast], 0);
    if (first > last || last > order.rows)
        call.value_error(call[kLast], "must be a place in 'order' from 'first' on");
    const auto* rows = static_cast<const std::int64_t*>(order.data);
    const Index count = last - first, ahead = std::min(count, order.rows - last);
    TakeRowsArgs args[2];
    py::object made[2];
    Tasks tasks;
    Index bytes = 0;
    for (const int i : {kX, kY}) {
        const DataRows from = read_any_rows(call, call[i]);
        for (Index row = first; row < last + ahead; ++row)
            if (rows[row] < 0 || rows[row] >= from.rows)
                call.value_error(call[kOrder], "names a row that is not there");
        const Index number = kNumberBytes[static_cast<int>(from.number)];
        made[i] = rows_like(call[i], count);
        args[i] = {.data = static_cast<const char*>(from.data),
                   .stride = from.row * number,
                   .bytes = from.cols * number,
                   .rows = rows + first,
                   .count = count,
                   .ahead = ahead,
                   .to = reinterpret_cast<const ArrayStruct*>(made[i].ptr())->data};
        bytes += count * args[i].bytes;
        tasks.add(kTakeRows, args[i]);
    }
    tasks.run(stream_ns(2.0 * static_cast<double>(bytes) / sizeof(float)));
    return py::make_tuple(made[0], made[1]).release().ptr();
}

}  // namespace

void bind_rows(py::module_& m) {
    m.def(
        "shuffled",
        [](Index n, std::uint64_t key) {
            py::array_t<std::int64_t> order(n);
            std::int64_t* const to = order.mutable_data();
            {
                const py::gil_scoped_release release;
                shuffled(n, key, to);
            }
            return order;
        },
        py::arg("n"), py::arg("key"));
    add_function<take_rows>(m, kTakeRowsDoc);
}

}  // namespace fastnn::bind
