#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "bind/bind.h"
#include "bind/run.h"
#include "bind/scalars.h"
#include "core/dispatch.h"
#include "core/team.h"
#include "core/threads.h"

namespace fastnn::bind {
namespace {

constexpr int kMaxThreads = 1024;

std::vector<std::string> words(const std::string& text) {
    std::istringstream stream(text);
    std::vector<std::string> list;
    for (std::string word; stream >> word;) list.push_back(word);
    return list;
}

// "scalar: -O3, avx2: -O3 -mavx2, " as {"scalar": "-O3", "avx2": "-O3 -mavx2"}
py::dict flags_of_isas(const std::string& text) {
    py::dict flags;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t colon = text.find(": ", at);
        const std::size_t end = text.find(", ", at);
        if (colon == text.npos) break;
        flags[py::str(text.substr(at, colon - at))] =
            text.substr(colon + 2, end == text.npos ? end : end - colon - 2);
        at = end == text.npos ? end : end + 2;
    }
    return flags;
}

py::dict build_info() {
    py::dict info;
    info["version"] = FASTNN_VERSION;
    info["build_id"] = FASTNN_BUILD_ID;
    info["compiler"] = FASTNN_COMPILER;
    info["flags"] = flags_of_isas(FASTNN_FLAGS);
    info["isas_built"] = built_isas();
    info["isas_left_out"] = words(FASTNN_ISAS_LEFT_OUT);
    const std::string cuda = FASTNN_CUDA;
    info["cuda"] = cuda.empty() ? "not built: " FASTNN_NO_CUDA : cuda;
    return info;
}

void change_isa(const py::object& name) {
    if (!PyUnicode_Check(name.ptr())) {
        throw py::type_error("set_isa(): 'name' must be a str such as \"avx2\", got " + repr_of(name.ptr()));
    }
    set_isa(utf8(name.ptr()));
}

// Both wait for the team, and its owner may need the GIL to look for signals.
void change_threads(const py::object& given) {
    const bool whole = !PyBool_Check(given.ptr()) && PyIndex_Check(given.ptr());
    // The nearest where it is too large.
    const Py_ssize_t n = whole ? PyNumber_AsSsize_t(given.ptr(), nullptr) : 0;
    if (!whole || PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        throw py::type_error("set_num_threads(): 'n' must be an integer, got " + repr_of(given.ptr()));
    }
    if (n < 1 || n > kMaxThreads) {
        throw py::value_error("set_num_threads(): 'n' must be from 1 to " + std::to_string(kMaxThreads) +
                              ", got " + repr_of(given.ptr()));
    }
    if (inside_poll()) {
        throw std::runtime_error(
            "set_num_threads(): called by a signal handler while a kernel runs; call it when the kernel has "
            "returned");
    }
    const py::gil_scoped_release release;
    set_num_threads(static_cast<int>(n));
}

double fork_join(int repeats) {
    if (repeats < 1) {
        throw py::value_error("fork_join(): 'repeats' must be at least 1, got " + std::to_string(repeats));
    }
    const py::gil_scoped_release release;
    return fork_join_seconds(repeats);
}

// ---- the machine's limits ------------------------------------------------------------------------------

double seconds_of(const LimitArgs& args) {
    using Clock = std::chrono::steady_clock;
    Tasks tasks;
    tasks.add(kernels().limit, args);
    const Clock::time_point start = Clock::now();
    tasks.run(1e9);
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// The best rate of several runs that together take about `seconds`: flops or bytes done per second.
double best_rate(LimitArgs args, double seconds, const char* function) {
    if (!(seconds > 0 && seconds <= 60)) {
        throw py::value_error(std::string(function) + "(): 'seconds' must be above 0 and at most 60, got " +
                              py::cast<std::string>(py::repr(py::float_(seconds))));
    }
    constexpr int kRuns = 5;
    constexpr Index kMostRepeats = Index{1} << 32;  // more than `seconds` ever asks for
    std::vector<double> done(static_cast<std::size_t>(args.threads));
    args.result = done.data();
    args.repeats = 1;
    while (args.repeats < kMostRepeats && seconds_of(args) < seconds / kRuns) args.repeats *= 2;
    double best = 0;
    for (int run = 0; run < kRuns; ++run) {
        const double time = seconds_of(args);
        double total = 0;
        for (const double amount : done) total += amount;
        best = std::max(best, total / time);
    }
    return best;
}

double limit_fma(double seconds, bool bfloat16) {
    LimitArgs args{};
    args.threads = num_threads();
    args.kind = bfloat16 ? 4 : 0;
    return best_rate(args, seconds, "limit_fma");
}

double limit_stream(const py::str& name, Index floats, double seconds) {
    const std::string kind = utf8(name.ptr());
    const std::vector<std::string> kinds = {"read", "copy", "update"};
    const auto found = std::find(kinds.begin(), kinds.end(), kind);
    if (found == kinds.end()) {
        throw py::value_error("limit_stream(): 'kind' must be 'read', 'copy' or 'update', got '" + kind +
                              "'");
    }
    LimitArgs args{};
    args.threads = num_threads();
    args.floats = floats / 16 * 16;  // chunks start on cache lines, so no line is shared
    Index bytes = 0;
    if (args.floats < 64 ||
        __builtin_mul_overflow(args.floats, Index{sizeof(float)} * args.threads, &bytes)) {
        throw py::value_error("limit_stream(): 'floats' must be at least 64 and fit memory, got " +
                              std::to_string(floats));
    }
    args.kind = 1 + static_cast<int>(found - kinds.begin());
    struct Free {
        void operator()(float* p) const { ::operator delete(p, std::align_val_t{64}); }
    };
    const std::unique_ptr<float, Free> memory(
        static_cast<float*>(::operator new(static_cast<std::size_t>(bytes), std::align_val_t{64})));
    std::fill_n(memory.get(), bytes / Index{sizeof(float)}, 1.0f);  // untouched pages would all be one page
    args.data = memory.get();
    return best_rate(args, seconds, "limit_stream");
}

PyObject* empty_call(Call&) { Py_RETURN_NONE; }

}  // namespace

// threadpoolctl tells fastnn's library by this name: other packages call theirs _core too.
extern "C" [[gnu::visibility("default")]] int fastnn_get_num_threads() { return num_threads(); }

void bind_runtime(py::module_& m) {
    kernels();              // reads FASTNN_ISA, and
    default_num_threads();  // FASTNN_NUM_THREADS: a wrong value fails the import
    m.def("isas", supported_isas, "ISAs of this build that this CPU supports, best first.");
    m.def("get_isa", [] { return std::string(kernels().isa); }, "The active ISA.");
    m.def("set_isa", change_isa, py::arg("name"),
          "Makes one of isas() the active ISA; ValueError for any other name.");
    m.def(
        "isa_macros", [] { return words(kernels().macros()); },
        "The macros with which the active ISA's own objects were compiled.");
    m.def("get_num_threads", num_threads, "Threads that a large call may use.");
    m.def("set_num_threads", change_threads, py::arg("n"), "Sets the threads that a large call may use.");
    m.def("build_info", build_info, "What was built: compiler, flags, ISAs, version.");
    m.def("stay_on_this_thread", stay_on_this_thread,
          "Kernels called by this thread run on it alone, from now on.");
    m.def("workspace_bytes", workspace_bytes, "Bytes of scratch memory and workspaces held for reuse.");
    m.def("limit_fma", limit_fma, py::arg("seconds") = 0.05, py::arg("bfloat16") = false,
          "FLOP/s of fused multiply-adds in registers, active ISA and threads; of bfloat16 where the ISA has "
          "any.");
    m.def("limit_stream", limit_stream, py::arg("kind"), py::arg("floats"), py::arg("seconds") = 0.05,
          "Bytes/s of 'read', 'copy' or 'update' over `floats` elements a thread, active ISA and threads.");
    m.def("fork_join", fork_join, py::arg("repeats"), "Seconds of one empty parallel region.");
    add_function<empty_call>(m, "empty_call()\n--\n\nDoes nothing: what a call costs.");
}

}  // namespace fastnn::bind
