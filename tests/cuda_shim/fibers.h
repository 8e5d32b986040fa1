// What ThreadSanitizer is told where it runs (shim.py defines FASTNN_FIBERS): the contexts, which it calls
// fibers, and what is ordered behind what.
#pragma once

#if defined(FASTNN_FIBERS)
#include <sanitizer/tsan_interface.h>
#endif

namespace shim {

#if defined(FASTNN_FIBERS)
using Fiber = void*;
inline Fiber own_fiber() { return __tsan_get_current_fiber(); }
inline Fiber new_fiber() { return __tsan_create_fiber(0); }
inline void stand_on(Fiber fiber) { __tsan_switch_to_fiber(fiber, __tsan_switch_to_fiber_no_sync); }
inline void hand_over(void* at) { __tsan_release(at); }
inline void take_over(void* at) { __tsan_acquire(at); }
inline constexpr bool kFibers = true;
#else
struct Fiber {};
inline Fiber own_fiber() { return {}; }
inline Fiber new_fiber() { return {}; }
inline void stand_on(Fiber) {}
inline void hand_over(void*) {}
inline void take_over(void*) {}
inline constexpr bool kFibers = false;
#endif

}  // namespace shim
