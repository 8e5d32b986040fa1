#include "bind/arrays.h"

namespace fastnn::bind {

void check_ranges_apart(const Call& call, const Region& out, const Region& other) {
    // Solving for a common element is exponential in the worst case; beyond this much work it counts as
    // found.
    constexpr int kMaxWork = 100000;
    try {
        const py::object shares = py::module_::import("numpy").attr("shares_memory");
        if (!py::cast<bool>(
                shares(py::handle(out.object), py::handle(other.object), py::arg("max_work") = kMaxWork))) {
            return;
        }
    } catch (const py::error_already_set& e) {
        if (!e.matches(PyExc_RuntimeError)) throw;  // TooHardError
    }
    call.value_error(out, "shares memory with '" + other.label() + "'; pass arrays with memory of their own");
}

}  // namespace fastnn::bind
