// Sizes of the matrix product, per ISA: data with the reason beside it, no code. Vocabulary of BLIS.
#pragma once

#include "cpu/simd.h"

namespace fastnn::FASTNN_NS {

// kRows[v]: rows of the register tile that is v registers wide (at most kMaxWidth). kSteps of the sum at a
// time: on AVX2 four take 87 instructions, one by one 100; with AVX-512 one has 34 that count.
#if defined(FASTNN_ISA_AVX512) || defined(FASTNN_ISA_AVX512BF16)
static constexpr int kMaxWidth = 4;                // 6x64: 24 accumulators, 4 of b, 1 of a
static constexpr int kRows[] = {0, 14, 12, 8, 6};  // 14x16 keeps both FMA units busy (8 chains are the least)
static constexpr int kMaxRows = 14;
static constexpr int kSteps = 2;
#elif defined(FASTNN_ISA_AVX2)
static constexpr int kMaxWidth = 2;  // 6x16: 12 accumulators, 2 of b, 1 of a
static constexpr int kRows[] = {0, 12, 6};
static constexpr int kMaxRows = 12;
static constexpr int kSteps = 4;
#else
static constexpr int kMaxWidth = 1;
static constexpr int kRows[] = {0, 4};
static constexpr int kMaxRows = 4;
static constexpr int kSteps = 1;
#endif

// Terms of the sum that a step of the tile adds up: of bfloat16 the two that share 32 bits.
#if defined(FASTNN_ISA_AVX512BF16)
static constexpr int kTerms = 2;
#else
static constexpr int kTerms = 1;
#endif

static constexpr int kPanel = kMaxWidth * Reg::kWidth;  // columns of a packed panel of b

// The part of b that one chunk works on (kBlockK rows at most) stays in half of a 512 KB second-level cache.
static constexpr Index kSlabFloats = 64 * 1024;

// A transposed a is packed again for each slab, and b for each block of rows: where there are rows enough for
// several chunks these are a quarter of the columns and rows, within bounds.
static constexpr Index kSharedRows = 512, kMinShared = 256, kMaxShared = 512;
static constexpr Index kSharedSlabFloats = kMaxShared * kBlockK;

// b is read where it lies only in memory of this alignment, where rows do not fall in a few sets of the
// caches, and where it is small or meets few rows. Aligned, in place and packed, shares of the FMA peak of
// one thread: 64x256 by 32 rows 0.93 and 0.85, 256x256 by 128 rows 0.85 and 0.93, 512x512 by 128 rows 0.69
// and 0.87, 1024x512 by 512 rows 0.59 and 0.90.
static constexpr Index kInPlaceAlign = 16;    // floats
static constexpr Index kInPlaceStride = 512;  // not rows of a multiple of this
static constexpr Index kInPlaceFloats = 16 * 1024;
static constexpr Index kFewRows = 48, kInPlaceFewFloats = 128 * 1024;

// Rows of a transposed a are packed by three cache lines of each of its steps, where this many panels share
// that.
static constexpr Index kRowsAtOnce = 48;
static constexpr Index kStepFloats = kRows[kMaxWidth];
static constexpr Index kTileFloats =
    kBlockK * kStepFloats + 16;  // of the rows of one tile; not all in one set
static constexpr int kTilesAtOnce = kRowsAtOnce / kStepFloats;
static constexpr Index kRowsFloats = kTilesAtOnce * kTileFloats;
static constexpr Index kSharingPanels = 4;
static_assert(kRowsAtOnce % kStepFloats == 0 && kStepFloats <= Reg::kWidth);
static_assert((kSharedSlabFloats + kRowsFloats) * Index{sizeof(float)} <= kScratchBytes);

// Work of one chunk: enough to hide a claim (0.1 us), enough chunks to keep several threads evenly busy.
static constexpr double kChunkFlops = 1e6;
static constexpr Index kMaxChunks = 24;
// A signal waits for the end of a chunk: about 0.1 s. Without an FMA instruction each is a function call.
#if defined(FASTNN_ISA_SCALAR) && !defined(__aarch64__)
static constexpr double kLongestChunkFlops = 1e8;
#else
static constexpr double kLongestChunkFlops = 5e9;
#endif
static constexpr Index kMinSlab = 64;
static constexpr Index kMinRows = 24;
static constexpr Index kMinPackedRows = 128;

// Fewer rows than this never pay for packing b: in place and packed, 4x512x512 takes 43 and 65 us,
// 8x1024x1024 494 and 331.
static constexpr Index kPackRows = 8;

}  // namespace fastnn::FASTNN_NS
