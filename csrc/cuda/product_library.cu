// cuBLASLt counts columns first: what is asked of it is c' = b' @ a', where b' and a' are what lies in
// memory. Its first proposal is taken, untimed, so the bits are the same every run with one release of it.
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cuda/product_library.h"

#ifndef FASTNN_CUBLASLT_NAMES  // tests name a stand-in
#define FASTNN_CUBLASLT_NAMES "libcublasLt.so.13", "libcublasLt.so.12"
#endif

namespace fastnn {
namespace {

// As in cublasLt.h of CUDA 12 and 13, which a toolkit need not have.
using Object = void*;  // a handle, a layout, a product, wishes
struct Algorithm {
    std::uint64_t data[8];
};
struct Proposal {
    Algorithm algorithm;
    std::size_t workspace;
    int state;
    float waves;
    int reserved[4];
};
enum Number : int { kFloat32 = 0, kBf16 = 14 };
enum Compute : int { kInFloat32 = 68, kInTf32 = 77 };
enum ProductAttribute : int { kTurnsFirst = 3, kTurnsSecond = 4, kEpilogue = 7, kBias = 8 };
enum Wish : int { kMostWorkspace = 1, kAlignments = 5 };  // of the four matrices, one after another
constexpr int kNoKernel = 15;                             // CUBLAS_STATUS_NOT_SUPPORTED
enum Epilogue : int { kPlain = 1, kWithBias = 4 };

struct Functions {
    std::size_t (*version)();
    const char* (*message)(int status);
    int (*make_handle)(Object*);
    int (*make_layout)(Object*, Number, std::uint64_t rows, std::uint64_t cols, std::int64_t lead);
    int (*make_product)(Object*, Compute, Number scale);
    int (*set_of_product)(Object, ProductAttribute, const void*, std::size_t);
    int (*make_wishes)(Object*);
    int (*set_wish)(Object, int wish, const void*, std::size_t);
    int (*propose)(Object handle, Object product, Object first, Object second, Object old, Object result,
                   Object wishes, int most, Proposal*, int* count);
    int (*multiply)(Object handle, Object product, const void* alpha, const void* first, Object,
                    const void* second, Object, const void* beta, const void* old, Object, void* result,
                    Object, const Algorithm*, void* workspace, std::size_t bytes, cudaStream_t);
    int (*forget_layout)(Object);
    int (*forget_product)(Object);
    int (*forget_wishes)(Object);
};

// What a proposal depends on. Matrices as they lie in memory, the operands in the order of the library.
struct Key {
    int device;
    Index m, n, k, first_lead, second_lead, result_lead;
    bool first_turned, second_turned, bf16, narrow, bias;
    unsigned alignment;  // of all pointers, up to 256
    auto operator<=>(const Key&) const = default;
};
struct Plan {
    Object first = nullptr, second = nullptr, result = nullptr, product = nullptr;
    Algorithm algorithm{};
    std::size_t workspace = 0;
    bool takes = false;
};

// Of a thread that records.
thread_local bool leaves_out = false;
thread_local std::vector<Key> left_out;

class CublasLt {
 public:
    static CublasLt& get() {
        static CublasLt one;
        return one;
    }
    bool is_there() const { return why_not_.empty(); }
    std::string about() const {
        if (!is_there()) return "fastnn (" + why_not_ + ")";
        const std::size_t v = call_.version();  // 130002 is 13.0.2
        return "cuBLASLt " + std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." +
               std::to_string(v % 100);
    }
    const char* message(int status) const { return call_.message(status); }

    int multiply(const Key& key, const LibraryProduct& p, void* stream, bool& taken) {
        const std::lock_guard<std::mutex> alone(mutex_);
        status_ = 0;
        if (!plans_.contains(key)) {
            cudaStreamCaptureStatus captured = cudaStreamCaptureStatusNone;
            const cudaError_t status = cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &captured);
            if (status != cudaSuccess) return static_cast<int>(status);
            if (captured != cudaStreamCaptureStatusNone) {
                taken = leaves_out;
                if (leaves_out) left_out.push_back(key);
                return 0;
            }
            make_plan(key);
            if (status_ != 0) return failed();
        }
        const Plan& plan = plans_.at(key);
        if (!plan.takes) return 0;
        if (p.g.bias != nullptr) set(plan, kBias, p.g.bias);
        if (status_ != 0) return failed();
        void* workspace = nullptr;
        const auto bytes = static_cast<Index>(plan.workspace);
        if (bytes > 0)
            if (const int status = cuda_borrow(&workspace, bytes, stream); status != 0) return status;
        ask(call_.multiply, handles_.at(key.device), plan.product, &p.g.alpha, p.b, plan.first, p.a,
            plan.second, &p.g.beta, p.c, plan.result, p.c, plan.result, &plan.algorithm, workspace,
            plan.workspace, static_cast<cudaStream_t>(stream));
        taken = status_ == 0;
        const int status = bytes > 0 ? cuda_give_back(workspace, stream) : 0;
        return status_ != 0 ? failed() : status;
    }
    int make_plans(const std::vector<Key>& keys) {
        const std::lock_guard<std::mutex> alone(mutex_);
        status_ = 0;
        for (const Key& key : keys)
            if (status_ == 0 && !plans_.contains(key)) make_plan(key);
        return failed();
    }

 private:
    static constexpr std::size_t kPlans = 256;  // kept
    static constexpr std::size_t kWorkspace = 32 << 20;

    CublasLt() {
        void* library = nullptr;
        for (const char* name : {FASTNN_CUBLASLT_NAMES}) {
            library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
            if (library != nullptr) break;
            if (why_not_.empty()) why_not_ = dlerror();
        }
        if (library == nullptr) return;
        why_not_.clear();
        find(library, call_.version, "cublasLtGetVersion");
        find(library, call_.message, "cublasLtGetStatusString");
        find(library, call_.make_handle, "cublasLtCreate");
        find(library, call_.make_layout, "cublasLtMatrixLayoutCreate");
        find(library, call_.make_product, "cublasLtMatmulDescCreate");
        find(library, call_.set_of_product, "cublasLtMatmulDescSetAttribute");
        find(library, call_.make_wishes, "cublasLtMatmulPreferenceCreate");
        find(library, call_.set_wish, "cublasLtMatmulPreferenceSetAttribute");
        find(library, call_.propose, "cublasLtMatmulAlgoGetHeuristic");
        find(library, call_.multiply, "cublasLtMatmul");
        find(library, call_.forget_layout, "cublasLtMatrixLayoutDestroy");
        find(library, call_.forget_product, "cublasLtMatmulDescDestroy");
        find(library, call_.forget_wishes, "cublasLtMatmulPreferenceDestroy");
    }
    template <class Function>
    void find(void* library, Function& function, const char* name) {
        function = reinterpret_cast<Function>(dlsym(library, name));
        if (function == nullptr) why_not_ = std::string("cuBLASLt has no ") + name;
    }

    // Unless something has failed.
    template <class... Parameters, class... Given>
    void ask(int (*function)(Parameters...), Given... given) {
        if (status_ == 0) status_ = function(given...);
    }
    int failed() const { return status_ != 0 ? kLibraryStatus + status_ : 0; }
    template <class T>
    void set(const Plan& plan, ProductAttribute attribute, const T& value) {
        ask(call_.set_of_product, plan.product, attribute, &value, sizeof(value));
    }
    void make_layout(Object& made, bool bf16, bool turned, Index rows, Index cols, Index lead) {
        ask(call_.make_layout, &made, bf16 ? kBf16 : kFloat32,
            static_cast<std::uint64_t>(turned ? cols : rows),
            static_cast<std::uint64_t>(turned ? rows : cols), lead);
    }
    void forget(const Plan& plan) {
        for (Object layout : {plan.first, plan.second, plan.result})
            if (layout != nullptr) call_.forget_layout(layout);
        if (plan.product != nullptr) call_.forget_product(plan.product);
    }
    void make_plan(const Key& key) {
        Object& handle = handles_[key.device];
        if (handle == nullptr) ask(call_.make_handle, &handle);
        if (plans_.size() == kPlans) {
            for (auto& [_, plan] : plans_) forget(plan);
            plans_.clear();
        }
        Plan plan;
        make_layout(plan.first, key.bf16, key.first_turned, key.n, key.k, key.first_lead);
        make_layout(plan.second, key.bf16, key.second_turned, key.k, key.m, key.second_lead);
        make_layout(plan.result, key.narrow, false, key.n, key.m, key.result_lead);
        ask(call_.make_product, &plan.product, key.bf16 ? kInFloat32 : kInTf32, kFloat32);
        set(plan, kTurnsFirst, key.first_turned ? 1 : 0);
        set(plan, kTurnsSecond, key.second_turned ? 1 : 0);
        set(plan, kEpilogue, key.bias ? kWithBias : kPlain);
        // Nobody reads there: its alignment counts.
        if (key.bias) set(plan, kBias, std::uintptr_t{key.alignment});
        Object wishes = nullptr;
        ask(call_.make_wishes, &wishes);
        const std::size_t most = kWorkspace;
        ask(call_.set_wish, wishes, int{kMostWorkspace}, &most, sizeof(most));
        for (int i = 0; i < 4; ++i)
            ask(call_.set_wish, wishes, kAlignments + i, &key.alignment, sizeof(key.alignment));
        Proposal first{};
        int count = 0;
        if (status_ == 0) {
            const int proposed = call_.propose(handle, plan.product, plan.first, plan.second, plan.result,
                                               plan.result, wishes, 1, &first, &count);
            plan.takes = proposed == 0 && count == 1 && first.state == 0;
            if (proposed != kNoKernel) status_ = proposed;
        }
        if (wishes != nullptr) call_.forget_wishes(wishes);
        plan.algorithm = first.algorithm;
        plan.workspace = first.workspace;
        if (status_ == 0)
            plans_.emplace(key, plan);
        else
            forget(plan);
    }

    std::string why_not_;
    Functions call_{};
    std::mutex mutex_;  // guards all below
    std::map<int, Object> handles_;
    std::map<Key, Plan> plans_;
    int status_ = 0;  // the first that is not 0 in a call
};

// The largest power of two up to 256 that all addresses are multiples of.
template <class... T>
unsigned alignment_of(const T*... p) {
    const std::uintptr_t all = (reinterpret_cast<std::uintptr_t>(p) | ...) | 256;
    return static_cast<unsigned>(all & (~all + 1));
}

}  // namespace

void library_leaves_out() { leaves_out = true; }

int library_left_out(bool& any) {
    leaves_out = false;
    const std::vector<Key> keys = std::exchange(left_out, {});
    any = !keys.empty();
    return any ? CublasLt::get().make_plans(keys) : 0;
}

std::string cuda_product_library() { return CublasLt::get().about(); }

const char* library_message(int status) {
    static thread_local std::string said;
    said = std::string("cuBLASLt: ") + CublasLt::get().message(status - kLibraryStatus);
    return said.c_str();
}

int library_product(const LibraryProduct& p, void* stream, bool& taken) {
    taken = false;
    const GemmArgs& g = p.g;
    CublasLt& library = CublasLt::get();
    Key key{.device = 0,
            .m = g.m,
            .n = g.n,
            .k = g.k,
            .first_lead = g.b_row,
            .second_lead = g.a_row,
            .result_lead = g.c_row,
            .first_turned = g.b_col != 1,
            .second_turned = g.a_col != 1,
            .bf16 = p.bf16,
            .narrow = p.narrow,
            .bias = g.bias != nullptr,
            .alignment = alignment_of(p.a, p.b, p.c, g.bias)};
    if (key.first_turned) key.first_lead = g.b_col;
    if (key.second_turned) key.second_lead = g.a_col;
    // Its ReLU is not known to keep NaN; a bias has the numbers of c there; rows may not overlap.
    const bool knows = library.is_there() && g.k > 0 && !(p.narrow && key.bias) &&
                       g.activation == Activation::none && key.first_lead >= (key.first_turned ? g.k : g.n) &&
                       key.second_lead >= (key.second_turned ? g.m : g.k) && g.c_row >= g.n;
    if (!knows) return 0;
    if (const cudaError_t status = cudaGetDevice(&key.device); status != cudaSuccess)
        return static_cast<int>(status);
    return library.multiply(key, p, stream, taken);
}

}  // namespace fastnn
