#include "core/dispatch.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <utility>

// Each table stands in the objects compiled for that ISA and is only pointers: reading it runs no code.
namespace fastnn {
namespace scalar {
extern const Kernels kTable;
}
namespace avx2 {
extern const Kernels kTable;
}
namespace avx512 {
extern const Kernels kTable;
}
namespace avx512bf16 {
const char* macros();
int gemm_bf16_chunks(const GemmBf16Args&);
void gemm_bf16(const GemmBf16Args&, int chunk, Scratch&);
int round_bf16_chunks(const RoundArgs&);
void round_bf16(const RoundArgs&, int chunk, Scratch&);
int limit_chunks(const LimitArgs&);
void limit(const LimitArgs&, int chunk, Scratch&);
}  // namespace avx512bf16

namespace {

struct Isa {
    Kernels table;
    bool supported;  // __builtin_cpu_supports asks the operating system for the registers too
};

const std::vector<Isa>& isas() {
    static const std::vector<Isa> list = [] {
        std::vector<Isa> v;
#if defined(FASTNN_HAVE_AVX512)
#if defined(FASTNN_EMULATED_AVX512)
        const bool f512 = true;
        [[maybe_unused]] const bool bf16 = true;
#else
        const bool f512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                          __builtin_cpu_supports("fma");
        [[maybe_unused]] const bool bf16 = __builtin_cpu_supports("avx512bf16");
#endif
#if defined(FASTNN_HAVE_AVX512BF16)
        // The float32 kernels are those of avx512.
        Kernels table = avx512::kTable;
        table.isa = "avx512bf16";
        table.macros = avx512bf16::macros;
        table.gemm_bf16 = {avx512bf16::gemm_bf16_chunks, avx512bf16::gemm_bf16};
        table.round_bf16 = {avx512bf16::round_bf16_chunks, avx512bf16::round_bf16};
        table.multiplies_bf16 = true;
        table.limit = {avx512bf16::limit_chunks, avx512bf16::limit};
        v.push_back({table, f512 && bf16});
#endif
        v.push_back({avx512::kTable, f512});
        // Intel's cores start a vdpbf16ps every other cycle, so its pairs are half as fast as the two FMAs a
        // cycle of widened numbers: products of bfloat16 on an Emerald Rapids at 0.75 to 0.87 of avx512's
        // speed.
        if (v.size() == 2 && __builtin_cpu_is("intel")) std::swap(v[0], v[1]);
#endif
#if defined(FASTNN_HAVE_AVX2)
        v.push_back({avx2::kTable, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")});
#endif
        v.push_back({scalar::kTable, true});
        return v;
    }();
    return list;
}

std::string joined(const std::vector<std::string>& names) {
    std::string s;
    for (const std::string& n : names) s += (s.empty() ? "" : ", ") + n;
    return s;
}

const Kernels* find(const std::string& name) {
    for (const Isa& isa : isas()) {
        if (name != isa.table.isa) continue;
        if (!isa.supported)
            throw std::invalid_argument("ISA '" + name + "' is not supported by this CPU; supported here: " +
                                        joined(supported_isas()));
        return &isa.table;
    }
    for (const char* known : {"avx512bf16", "avx512", "avx2", "scalar"})
        if (name == known)
            throw std::invalid_argument("ISA '" + name +
                                        "' is not in this build; built: " + joined(built_isas()));
    throw std::invalid_argument("unknown ISA '" + name + "'; choose one of scalar, avx2, avx512, avx512bf16");
}

const Kernels* first_choice() {
    const char* forced = std::getenv("FASTNN_ISA");
    if (forced != nullptr && *forced != '\0') {
        try {
            return find(forced);
        } catch (const std::invalid_argument& e) {
            throw std::invalid_argument(std::string("FASTNN_ISA: ") + e.what());
        }
    }
    for (const Isa& isa : isas())
        if (isa.supported) return &isa.table;
    return nullptr;  // not reached: scalar is always supported
}

std::atomic<const Kernels*>& active() {
    static std::atomic<const Kernels*> table{first_choice()};
    return table;
}

}  // namespace

const Kernels& kernels() { return *active().load(std::memory_order_relaxed); }

std::vector<std::string> supported_isas() {
    std::vector<std::string> names;
    for (const Isa& isa : isas())
        if (isa.supported) names.emplace_back(isa.table.isa);
    return names;
}

std::vector<std::string> built_isas() {
    std::vector<std::string> names;
    for (const Isa& isa : isas()) names.emplace_back(isa.table.isa);
    return names;
}

void set_isa(const std::string& name) { active().store(find(name), std::memory_order_relaxed); }

}  // namespace fastnn
