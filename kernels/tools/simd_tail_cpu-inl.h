// SPDX-License-Identifier: Apache-2.0
// The last, incomplete vector of an array: loads and stores that touch its first `count` lanes and no memory beyond
// them.
#if defined(CUMETA_SIMD_TAIL_CPU_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CUMETA_SIMD_TAIL_CPU_INL_H_
#undef CUMETA_SIMD_TAIL_CPU_INL_H_
#else
#define CUMETA_SIMD_TAIL_CPU_INL_H_
#endif

#include <cstddef>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cumeta {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVector = hn::Vec<FloatTag>;
using FloatMask = hn::Mask<FloatTag>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(FloatTag()));

// Without masked instructions Highway blends with what lies in memory beyond the array, which may be another thread's.
constexpr bool kHasMaskedMemory = HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3;

HWY_INLINE FloatVector load_first(int count, FloatMask mask, const float* from) {
  const FloatTag d;
  if (kHasMaskedMemory) return hn::MaskedLoad(mask, d, from);
  HWY_ALIGN float lanes[kLanes] = {};
  for (int i = 0; i < count; ++i) lanes[i] = from[i];
  return hn::Load(d, lanes);
}

HWY_INLINE void store_first(FloatVector v, int count, FloatMask mask, float* to) {
  const FloatTag d;
  if (kHasMaskedMemory) {
    hn::BlendedStore(v, mask, d, to);
    return;
  }
  HWY_ALIGN float lanes[kLanes];
  hn::Store(v, d, lanes);
  for (int i = 0; i < count; ++i) to[i] = lanes[i];
}

// out[i] = f(in[i]...) for i < n; `out` may be one of the inputs.
template <class Function, class... In>
HWY_INLINE void map_vectors(std::ptrdiff_t n, float* out, Function f, const In*... in) {
  const FloatTag d;
  std::ptrdiff_t i = 0;
  for (; i + kLanes <= n; i += kLanes) hn::StoreU(f(hn::LoadU(d, in + i)...), d, out + i);
  if (i < n) {
    const int count = static_cast<int>(n - i);
    const FloatMask mask = hn::FirstN(d, static_cast<std::size_t>(count));
    store_first(f(load_first(count, mask, in + i)...), count, mask, out + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cumeta
HWY_AFTER_NAMESPACE();

#endif
