// Memory in whole pages, from std::malloc's family.
#pragma once

#include <sys/mman.h>

#include <cstdlib>

#include "core/types.h"

namespace fastnn {

// At least `bytes`, which becomes what was taken; null if there is no memory. Where it fills half of a huge
// page the system is asked for those: the first touch of 64 MB took 19 ms without and 3 with, and small ones
// fall in some sets of the second-level cache more often than in others (a 512x784x2048 product on two
// threads, in one of several processes: 16 ms without, 12 with).
inline void* allocate_pages(Index& bytes) noexcept {
    constexpr Index kPage = 4096, kHugePage = Index{1} << 21;
    const bool huge = bytes >= kHugePage / 2;
    const Index page = huge ? kHugePage : kPage;
    bytes = (bytes + page - 1) / page * page;
    void* const memory = std::aligned_alloc(static_cast<std::size_t>(page), static_cast<std::size_t>(bytes));
    if (huge && memory != nullptr) madvise(memory, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);
    return memory;
}

}  // namespace fastnn
