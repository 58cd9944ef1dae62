// SPDX-License-Identifier: Apache-2.0
// The register tile of the CPU contraction: kRows x (kVectors * lanes) accumulators, compiled once per SIMD target.
#if defined(CUMETA_CONTRACTION_TILE_CPU_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CUMETA_CONTRACTION_TILE_CPU_INL_H_
#undef CUMETA_CONTRACTION_TILE_CPU_INL_H_
#else
#define CUMETA_CONTRACTION_TILE_CPU_INL_H_
#endif

#include "hwy/highway.h"
#include "kernels/tools/contraction_cpu.h"
#include "kernels/tools/simd_tail_cpu-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cumeta {
namespace HWY_NAMESPACE {
// Sixteen vector registers hold 12 accumulators beside their operands, thirty-two hold 24.
constexpr bool kManyRegisters = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON;
constexpr int kMaxVectors = kManyRegisters ? 4 : 3;
constexpr int kWideVectors = kManyRegisters ? 4 : 2;  // the panel that most columns are cut into
constexpr int tile_rows(int vectors) {
  if (kManyRegisters) return vectors == 4 ? 6 : vectors == 3 ? 8 : 12;
  return vectors == 3 ? 4 : vectors == 2 ? 6 : 10;
}

// What a tile needs beside its shape; `a_rows` and `c_rows` point at the tile's first row, b and c at its first column.
struct TileArguments {
  const std::int32_t* a_rows;
  const std::int32_t* c_rows;
  const ContractionSegment* segments;
  int segment_count;
  std::int64_t a_step;
  std::int64_t b_step;
  const std::int32_t* a_terms;
  const std::int32_t* b_terms;
  std::int64_t first_column;
  float* c;
  bool accumulate;
  const float* start;
  int last_lanes;  // valid lanes of the last vector
};

// GCC keeps accumulator arrays in memory unless every loop over them is unrolled, hence the pragmas.
template <int kRows, int kVectors, bool kListed, bool kMasked>
HWY_NOINLINE void contraction_tile(const TileArguments& t) {
  const FloatTag d;
  using V = FloatVector;
  const auto mask = hn::FirstN(d, static_cast<size_t>(t.last_lanes));
  const auto load = [&](const float* HWY_RESTRICT from, int j) HWY_ATTR {
    return kMasked && j == kVectors - 1 ? load_first(t.last_lanes, mask, from + j * kLanes)
                                        : hn::LoadU(d, from + j * kLanes);
  };
  V sum[kRows][kVectors];
  float* HWY_RESTRICT c = t.c + t.first_column;
  if (t.accumulate) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[i][j] = load(c + t.c_rows[i], j);
    }
  } else if (t.start != nullptr) {
    const float* HWY_RESTRICT start = t.start + t.first_column;
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[i][j] = load(start, j);
    }
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[i][j] = hn::Zero(d);
    }
  }
  for (int s = 0; s < t.segment_count; ++s) {
    const float* a[kRows];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) a[i] = t.segments[s].a + t.a_rows[i];
    const float* HWY_RESTRICT b = t.segments[s].b + t.first_column;
    const std::int64_t depth = t.segments[s].depth;
    std::int64_t a_offset = 0;
    for (std::int64_t k = 0; k < depth; ++k) {
      const float* HWY_RESTRICT b_row = kListed ? b + t.b_terms[k] : b;
      if (kListed) a_offset = t.a_terms[k];
      V b_values[kVectors];
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) b_values[j] = load(b_row, j);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const V a_value = hn::Set(d, a[i][a_offset]);
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) sum[i][j] = hn::MulAdd(a_value, b_values[j], sum[i][j]);
      }
      if (!kListed) {
        a_offset += t.a_step;
        b += t.b_step;
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    float* HWY_RESTRICT row = c + t.c_rows[i];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      if (kMasked && j == kVectors - 1) {
        store_first(sum[i][j], t.last_lanes, mask, row + j * kLanes);
      } else {
        hn::StoreU(sum[i][j], d, row + j * kLanes);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cumeta
HWY_AFTER_NAMESPACE();

#endif
