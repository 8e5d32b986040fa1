// Large products on tensor cores by NVIDIA's cuBLASLt, where that can be loaded. It is no part of the build.
#pragma once

#include "cuda/entries.h"

namespace fastnn {

struct LibraryProduct {
    GemmArgs g;
    const void *a, *b;
    void* c;
    bool bf16;    // a and b are bfloat16, not float32 that rounds to TF32
    bool narrow;  // c is bfloat16, not float32
};

// Launches c = alpha * a @ b + beta * c + bias and says so in `taken`, where there is the library and it
// knows this product: behind an activation it is not asked.
int library_product(const LibraryProduct& p, void* stream, bool& taken);
// It is asked how it would form a product once, and only where no stream is captured: 13.3 fails there. What
// this thread records meanwhile leaves out products that it was not asked for before. `library_left_out` ends
// that, asks, and says in `any` whether there were such: then all is recorded anew.
void library_leaves_out();
int library_left_out(bool& any);
// What it said of a status that is no cudaError_t.
const char* library_message(int status);

}  // namespace fastnn
