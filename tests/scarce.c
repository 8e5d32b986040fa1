// Preloaded into a test process: makes one chosen allocation fail, or every start of a thread but the first few, and
// counts those of fastnn.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void*, size_t);
extern void *__libc_memalign(size_t, size_t);

static __thread long left;         // allocations of this thread until the one that fails; 0: none does
static _Atomic long left_anywhere; // the same over all threads, of blocks of at least `least`
static size_t least = 1;
static _Atomic long failed;
static _Atomic int threads_left = -1;  // -1: any number

static _Atomic long own;           // allocations of the compiled module since then, of any size

// By the compiled module, or by the `operator new` that it calls; all others are Python's and NumPy's.
static int is_own(const void* caller) {
    Dl_info at;
    return dladdr(caller, &at) && (strstr(at.dli_fname, "/_core.") || strstr(at.dli_fname, "/libstdc++"));
}

static int fails(size_t size, const void* caller) {
    if (left > 0 && --left == 0) return ++failed;
    if (left_anywhere > 0 && is_own(caller)) ++own;
    if (size >= least && left_anywhere > 0 && --left_anywhere == 0) return ++failed;
    return 0;
}

void scarce_arm(long nth) { left = nth; }
void scarce_arm_anywhere(long nth, size_t bytes) { own = 0, least = bytes, left_anywhere = nth; }
long scarce_disarm(void) {
    left = left_anywhere = 0;
    return atomic_exchange(&failed, 0);
}
long scarce_left_anywhere(void) { return left_anywhere; }
long scarce_own(void) { return own; }
void scarce_threads(int n) { threads_left = n; }

static void* none(void) { return errno = ENOMEM, NULL; }

#define CALLER __builtin_return_address(0)

static void* aligned(size_t a, size_t n, const void* caller) {
    return fails(n, caller) ? none() : __libc_memalign(a, n);
}

void* malloc(size_t n) { return fails(n, CALLER) ? none() : __libc_malloc(n); }
void* calloc(size_t n, size_t m) { return fails(n * m, CALLER) ? none() : __libc_calloc(n, m); }
void* realloc(void* p, size_t n) { return fails(n, CALLER) ? none() : __libc_realloc(p, n); }
void* memalign(size_t a, size_t n) { return aligned(a, n, CALLER); }
void* aligned_alloc(size_t a, size_t n) { return aligned(a, n, CALLER); }
int posix_memalign(void** p, size_t a, size_t n) {
    void* block = aligned(a, n, CALLER);
    if (block == NULL) return ENOMEM;
    *p = block;
    return 0;
}

int pthread_create(pthread_t* t, const pthread_attr_t* a, void* (*f)(void*), void* x) {
    if (threads_left >= 0 && threads_left-- <= 0) return threads_left = 0, EAGAIN;
    int (*real)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*) = dlsym(RTLD_NEXT, "pthread_create");
    return real(t, a, f, x);
}
