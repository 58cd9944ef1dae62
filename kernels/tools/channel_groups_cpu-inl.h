// SPDX-License-Identifier: Apache-2.0
// Sums over the rows of an array [rows][channels], channel by channel: channels in groups of vectors, rows in blocks.
#if defined(CUMETA_CHANNEL_GROUPS_CPU_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CUMETA_CHANNEL_GROUPS_CPU_INL_H_
#undef CUMETA_CHANNEL_GROUPS_CPU_INL_H_
#else
#define CUMETA_CHANNEL_GROUPS_CPU_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"
#include "kernels/tools/simd_tail_cpu-inl.h"

// The vectors j of a group; unrolled, because an array of sums stays in registers only so.
#undef CUMETA_EACH
#define CUMETA_EACH _Pragma("GCC unroll 4") for (int j = 0; j < kVectors; ++j)

HWY_BEFORE_NAMESPACE();
namespace cumeta {
namespace HWY_NAMESPACE {

// kVectors vectors of channels from `first` on; the last may be incomplete when kVectors is 1.
template <int kVectors>
struct Channels {
  std::int64_t first;
  int count;  // lanes of the last vector
  FloatMask mask;

  HWY_INLINE FloatVector load(const float* from, int j) const {
    if (kVectors == 1) return load_first(count, mask, from + first);
    return hn::LoadU(FloatTag(), from + first + j * kLanes);
  }
  HWY_INLINE FloatVector load_or(const float* from, int j, float value) const {
    return from ? load(from, j) : hn::Set(FloatTag(), value);
  }
  HWY_INLINE void store(FloatVector v, float* to, int j) const {
    if (kVectors == 1) {
      store_first(v, count, mask, to + first);
    } else {
      hn::StoreU(v, FloatTag(), to + first + j * kLanes);
    }
  }
};

// A chain of n additions in float loses up to n roundings, and numbers of one sign lose them in one direction.
constexpr std::int64_t kBlockRows = 512;

// Calls f(first row, row behind the last) for every block of rows.
template <class F>
HWY_INLINE void for_each_block(std::int64_t rows, F f) {
  for (std::int64_t first = 0; first < rows; first += kBlockRows) f(first, HWY_MIN(first + kBlockRows, rows));
}

/// Calls f with groups of vectors, then with single ones; the sums of a channel do not depend on its group.
template <int kVectors, class F>
HWY_INLINE void for_each_group(std::int64_t channels, F f) {
  std::int64_t first = 0;
  for (; first + kVectors * kLanes <= channels; first += kVectors * kLanes) {
    f(Channels<kVectors>{first, kLanes, hn::FirstN(FloatTag(), kLanes)});
  }
  for (; first < channels; first += kLanes) {
    const int count = static_cast<int>(HWY_MIN(static_cast<std::int64_t>(kLanes), channels - first));
    f(Channels<1>{first, count, hn::FirstN(FloatTag(), static_cast<std::size_t>(count))});
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cumeta
HWY_AFTER_NAMESPACE();

#endif
