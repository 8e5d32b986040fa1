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

static constexpr Index kTileRows = kRows[kMaxWidth];

static constexpr bool kWide = Reg::kWidth == 16;  // AVX-512, which comes with larger second-level caches

// Terms of the sum that a step of the tile adds up: of bfloat16 the two that share 32 bits.
#if defined(FASTNN_ISA_AVX512BF16)
static constexpr int kTerms = 2;
#else
static constexpr int kTerms = 1;
#endif
// Pairs are packed always; what follows of b where it lies is of single terms.

static constexpr int kPanel = kMaxWidth * Reg::kWidth;  // columns of a packed panel of b

// The part of b that one chunk works on (kBlockK rows at most) stays in half of the second-level cache, of 1
// MB or more where there is AVX-512, else of 512 KB.
static constexpr Index kSlabFloats = (kWide ? 128 : 64) * 1024;

// A transposed a is packed again for each slab, and b for each block of rows: where there are rows enough for
// several chunks these are a quarter of the columns and rows, within bounds.
static constexpr Index kSharedRows = 512, kMinShared = 256, kMaxShared = 512;
static constexpr Index kSharedSlabFloats = kMaxShared * kBlockK;

// Where b is read where it lies, not packed: it begins at a border of `align` floats, as do its rows, these
// do not fall in a few sets of the caches (no multiples of `stride`), and it is small. Products of at most
// kFewRows rows do better so than others.
struct InPlace {
    Index align, stride, floats;
};
// AVX-512: times in place over packed, one thread, L2 of 2 MB: aligned, 16 rows 0.65 to 0.85, 32 rows 0.79 to
// 0.9, 128 and 512 rows 0.90 to 1.0 (512x512 0.93, but 1.06 beside a busy sibling of the core; rows of 1024
// floats 1.5 and more); 16 bytes off, 16 rows 0.71 to 0.96, 32 rows 0.9 to 1.0, more rows 1.1 to 1.2.
// AVX2: shares of the FMA peak of one thread, L2 of 512 KB, in place and packed: 64x256 by 32 rows 0.93 and
// 0.85, 256x256 by 128 rows 0.85 and 0.93, 512x512 by 128 rows 0.69 and 0.87, 1024x512 by 512 rows 0.59 and
// 0.90.
static constexpr Index kFewRows = kWide ? 32 : 48;
static constexpr InPlace kInPlaceFew = kWide ? InPlace{.align = 1, .stride = 1024, .floats = 512 * 1024}
                                             : InPlace{.align = 16, .stride = 512, .floats = 128 * 1024};
static constexpr InPlace kInPlaceMany = {.align = 16, .stride = 512, .floats = (kWide ? 256 : 16) * 1024};

// Rows of a transposed a are packed by three cache lines of each of its steps, where this many panels share
// that. With AVX-512 two panels do better without (784x64x128: 1.09 times the time packed).
static constexpr Index kRowsAtOnce = 48;
static constexpr Index kPackedRow = kBlockK + 16;  // not all in one set
static constexpr Index kRowsFloats = kRowsAtOnce * kPackedRow;
static constexpr Index kSharingPanels = 4;
static_assert((kSharedSlabFloats + kRowsFloats) * Index{sizeof(float)} <= kScratchBytes);

// Up to so many rows, b is read where it lies from the border of a vector on: loads across two lines are what
// they cost, and NumPy's arrays begin 16 bytes past one. 1 to 3 rows: 0.64 to 0.93 of the time; 4 rows: 1.2.
static constexpr Index kBorderRows = kWide && kTerms == 1 ? 3 : 0;

// Work of one chunk: enough to hide a claim (0.1 us), enough chunks to keep several threads evenly busy.
static constexpr double kChunkFlops = 1e6;
static constexpr Index kMaxChunks = kWide ? 16 : 24;
// A signal waits for the end of a chunk: about 0.1 s. Without an FMA instruction each is a function call.
#if defined(FASTNN_ISA_SCALAR) && !defined(__aarch64__)
static constexpr double kLongestChunkFlops = 1e8;
#else
static constexpr double kLongestChunkFlops = 5e9;
#endif
static constexpr Index kMinSlab = 64, kFewTerms = 4, kWholeRows = 4096;
static constexpr Index kMinRows = 24;
// To pack a number of b takes as long as a tenth of the work of 128 rows with it on AVX-512: with blocks of
// 512 rows and fewer chunks 512^3, 1024^3 and 512x2048x2048 take 0.955, 0.97 and 0.946 times as long.
static constexpr Index kMinPackedRows = kWide ? 512 : 128;

// Fewer rows than this never pay for packing b: in place and packed, 4x512x512 takes 43 and 65 us,
// 8x1024x1024 494 and 331.
static constexpr Index kPackRows = 8;

// With fewer columns c is computed transposed where a is, by so many rows at a time. Times over those of
// tiles across its columns: 512x512x10 0.5, 2048x512x10 0.5 to 0.65, 128x128x10 0.53 to 0.67, 256x128x2 0.3,
// 784x128x15 0.96.
static constexpr Index kFewColumns = 16, kColumnsAtOnce = 512;

// Up to so many rows, more than the widest tile has, b is read once where it lies, by tiles three registers
// wide that fetch its rows to come. 8 rows, times over those packed or read twice: 8x512x2048 0.6 to 0.75,
// 8x1024x1024 0.66 to 0.77, 8x784x512 0.73 to 0.9. Of 3 to 6 rows the same fetching takes 1.0 to 1.3 times as
// long.
static constexpr int kTall = kWide && kTerms == 1 ? 8 : 0;
static constexpr int kTallWidth = 3;
static constexpr Index kRowsAhead = 12;

// With AVX-512, up to so many rows, a transposed b is not packed (gemm_transposed.h), unless it is small and
// meets more than four. Times over those packed (AVX2 1.0 to 1.3): 1x512x784 0.4 to 0.5, 1x1024x1024 0.3 to
// 0.37, 8x512x784 0.7, 8x1024x1024 0.41 to 0.47, 12x512x784 0.75, 12x519x784 1.02 to 1.05, 16x519x784 1.13;
// 8x64x64 1.2, 8x128x128 0.95.
static constexpr int kTransposedRows = 12;
static constexpr Index kTransposedFloats = 16 * 1024;

}  // namespace fastnn::FASTNN_NS
