// A stand-in for cuBLASLt: what csrc/cuda/product_library.cu and bench/gpu_cublaslt.py call of it, on the
// host, with launches that a graph records. It refuses what the library would refuse, all but products while
// a stream is captured, and what would go unseen: a pointer that is aligned to less than was said. Its
// kernels write over the workspace that they ask for.
#include <cuda_runtime.h>

#include <cstddef>
#include <cstring>

#include "cuda/bf16.h"
#include "cuda/launch.h"
#include "cuda/tensor_core.h"

using fastnn::BFloat16;

namespace {

enum : int { kInvalid = 7, kInternal = 14, kNotSupported = 15 };
enum Number : int { kFloat32 = 0, kBf16 = 14 };

struct Layout {
    int number;
    std::uint64_t rows, cols;
    std::int64_t lead;
};
struct Product {
    int compute, scale, turned[2], epilogue;
    const float* bias;
};
struct Wishes {
    std::size_t workspace;
    unsigned alignment[4];
};
struct Proposal {
    std::uint64_t algorithm[8];
    std::size_t workspace;
    int state;
    float waves;
    int reserved[4];
};
int handle_of_all, made = 0, asked = 0, multiplied = 0, proposals = 3;
bool fails = false, ignorant = false;

float read(const void* data, const Layout& x, std::uint64_t row, std::uint64_t col) {
    const std::uint64_t i = row + col * static_cast<std::uint64_t>(x.lead);
    return x.number == kFloat32 ? static_cast<const float*>(data)[i]
                                : fastnn::widened(static_cast<const BFloat16*>(data)[i]);
}
float rounded(float x, int compute) {
    return compute == 77 ? __builtin_bit_cast(float, fastnn::rounded_to_tf32(__builtin_bit_cast(unsigned, x)))
                         : x;
}

struct Call {
    Product product;
    Layout a, b, d;
    const void *first, *second;
    void *result, *workspace;
    std::size_t bytes;
    float alpha, beta;
};
__global__ void run(Call c) {
    ++multiplied;
    if (c.bytes > 0) std::memset(c.workspace, 0, c.bytes);
    const bool turns_a = c.product.turned[0] != 0, turns_b = c.product.turned[1] != 0;
    const std::uint64_t depth = turns_a ? c.a.rows : c.a.cols;
    for (std::uint64_t j = 0; j < c.d.cols; ++j)
        for (std::uint64_t i = 0; i < c.d.rows; ++i) {
            float sum = 0.0f;
            for (std::uint64_t k = 0; k < depth; ++k) {
                const float x = turns_a ? read(c.first, c.a, k, i) : read(c.first, c.a, i, k);
                const float y = turns_b ? read(c.second, c.b, j, k) : read(c.second, c.b, k, j);
                sum += rounded(x, c.product.compute) * rounded(y, c.product.compute);
            }
            float value = c.alpha * sum;
            if (c.beta != 0.0f) value += c.beta * read(c.result, c.d, i, j);
            if (c.product.epilogue == 4) value += c.product.bias[i];
            const std::uint64_t at = i + j * static_cast<std::uint64_t>(c.d.lead);
            if (c.d.number == kFloat32)
                static_cast<float*>(c.result)[at] = value;
            else
                static_cast<BFloat16*>(c.result)[at] = fastnn::narrowed(value);
        }
}

template <class T>
int make(T** object, const T& value) {
    *object = new T(value);
    ++made;
    return 0;
}
template <class T>
int forget(T* object) {
    delete object;
    --made;
    return 0;
}

}  // namespace

extern "C" {

// For the tests: objects that live, proposals asked for, products; how many kernels there are to propose.
int cublaslt_made() { return made; }
int cublaslt_asked() { return asked; }
int cublaslt_multiplied() { return multiplied; }
void cublaslt_proposals(int count) { proposals = count; }
void cublaslt_fails(int whether) { fails = whether != 0; }             // each product
void cublaslt_knows_nothing(int whether) { ignorant = whether != 0; }  // each question

std::size_t cublasLtGetVersion() { return 130002; }
const char* cublasLtGetStatusString(int status) {
    return status == kInvalid ? "invalid value" : "internal error";
}
int cublasLtCreate(void** handle) {
    if (shim::captures > 0) return kInternal;
    *handle = &handle_of_all;
    return 0;
}
int cublasLtMatrixLayoutCreate(Layout** layout, int number, std::uint64_t rows, std::uint64_t cols,
                               std::int64_t lead) {
    if (lead < static_cast<std::int64_t>(rows)) return kInvalid;
    return make(layout, Layout{number, rows, cols, lead});
}
int cublasLtMatrixLayoutDestroy(Layout* layout) { return forget(layout); }
int cublasLtMatmulDescCreate(Product** product, int compute, int scale) {
    return make(product, Product{compute, scale, {0, 0}, 1, nullptr});
}
int cublasLtMatmulDescDestroy(Product* product) { return forget(product); }
int cublasLtMatmulDescSetAttribute(Product* product, int attribute, const void* value, std::size_t bytes) {
    int number = 0;
    std::memcpy(&number, value, sizeof(number));
    if (bytes != (attribute == 8 ? sizeof(void*) : sizeof(int))) return kInvalid;
    if (attribute == 3 || attribute == 4)
        product->turned[attribute - 3] = number;
    else if (attribute == 7)
        product->epilogue = number;
    else if (attribute == 8)
        std::memcpy(&product->bias, value, bytes);
    else
        return kInvalid;
    return 0;
}
int cublasLtMatmulPreferenceCreate(Wishes** wishes) { return make(wishes, Wishes{0, {256, 256, 256, 256}}); }
int cublasLtMatmulPreferenceDestroy(Wishes* wishes) { return forget(wishes); }
int cublasLtMatmulPreferenceSetAttribute(Wishes* wishes, int attribute, const void* value,
                                         std::size_t bytes) {
    if (attribute == 1 && bytes == sizeof(std::size_t))
        std::memcpy(&wishes->workspace, value, bytes);
    else if (attribute >= 5 && attribute < 9 && bytes == sizeof(unsigned))
        std::memcpy(&wishes->alignment[attribute - 5], value, bytes);
    else
        return kInvalid;
    return 0;
}
// The first of three kernels wants a workspace, the second is none for this product.
int cublasLtMatmulAlgoGetHeuristic(void* handle, const Product* p, const Layout* a, const Layout* b,
                                   const Layout* c, const Layout* d, const Wishes* wishes, int most,
                                   Proposal* found, int* count) {
    ++asked;
    *count = 0;
    const bool turns_a = p->turned[0] != 0, turns_b = p->turned[1] != 0;
    const std::uint64_t rows = turns_a ? a->cols : a->rows, cols = turns_b ? b->rows : b->cols;
    const std::uint64_t terms[] = {turns_a ? a->rows : a->cols, turns_b ? b->cols : b->rows};
    if (shim::captures > 0 || ignorant) return kInternal;
    if (handle != &handle_of_all || terms[0] != terms[1] || rows != d->rows || cols != d->cols || c != d)
        return kInvalid;
    if (p->scale != kFloat32 || a->number != b->number || (p->compute == 77 && a->number != kFloat32))
        return kNotSupported;
    const bool biased = p->epilogue == 4;
    if ((p->epilogue != 1 && !biased) || (biased && (p->bias == nullptr || d->number != kFloat32)))
        return kNotSupported;
    unsigned alignment = 256;
    for (const unsigned each : wishes->alignment) alignment = each < alignment ? each : alignment;
    const std::size_t workspaces[] = {64, 0, 0};
    for (int i = 0; i < proposals && *count < most; ++i) {
        if (workspaces[i] > wishes->workspace) continue;
        found[*count] = {{static_cast<std::uint64_t>(i) + 1, alignment},
                         workspaces[i],
                         i == 1 ? kNotSupported : 0,
                         1.0f,
                         {}};
        ++*count;
    }
    return 0;
}
int cublasLtMatmul(void* handle, const Product* product, const float* alpha, const void* first,
                   const Layout* a, const void* second, const Layout* b, const float* beta, const void* old,
                   const Layout* c, void* result, const Layout* d, const std::uint64_t* algorithm,
                   void* workspace, std::size_t bytes, cudaStream_t stream) {
    if (fails || handle != &handle_of_all || old != result || c != d) return kInvalid;
    if (algorithm[0] == 2 || (algorithm[0] == 1 && bytes < 64)) return kInvalid;
    for (const void* p : {first, second, static_cast<const void*>(result)})
        if (reinterpret_cast<std::uintptr_t>(p) % algorithm[1] != 0) return kInvalid;
    const Call call{*product, *a, *b, *d, first, second, result, workspace, bytes, *alpha, *beta};
    FASTNN_LAUNCH(run, 1, 1, stream, call);
    return 0;
}
}
