// SPDX-License-Identifier: Apache-2.0
// The CPU contraction: cuts C into register tiles and the sum into blocks whose part of B stays in the first-level
// cache.
#include "kernels/tools/contraction_cpu.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <utility>

#include "kernels/tools/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tools/contraction_cpu.cpp"
#include "hwy/foreach_target.h"
//
#include "hwy/highway.h"
#include "kernels/tools/contraction_tile_cpu-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cumeta {
namespace HWY_NAMESPACE {

using TileFunction = void (*)(const TileArguments&);
constexpr int kMaxRows = 12;

template <int kVectors, bool kListed, bool kMasked, int... kRow>
constexpr std::array<TileFunction, kMaxRows + 1> tile_column(std::integer_sequence<int, kRow...>) {
  return {nullptr, contraction_tile<kRow + 1, kVectors, kListed, kMasked>...};
}
template <int kVectors, bool kListed, bool kMasked>
constexpr auto tiles_of =
    tile_column<kVectors, kListed, kMasked>(std::make_integer_sequence<int, tile_rows(kVectors)>());

// Narrow panels always take the masked tile: a full mask costs nothing beside a second set of functions.
template <bool kListed>
TileFunction choose_tile(int rows, int vectors, bool masked) {
  if (vectors == kWideVectors && !masked) return tiles_of<kWideVectors, kListed, false>[rows];
  if (vectors == 1) return tiles_of<1, kListed, true>[rows];
  if (vectors == 2) return tiles_of<2, kListed, true>[rows];
  if (vectors == 3) return tiles_of<3, kListed, true>[rows];
  return tiles_of<kMaxVectors, kListed, true>[rows];
}

// Vectors of the next panel when `left` columns remain: three at once rather than two and one.
int panel_vectors(std::int64_t left) {
  const std::int64_t vectors = (left + kLanes - 1) / kLanes;
  if (vectors <= kMaxVectors) return static_cast<int>(vectors);
  return vectors == kWideVectors + 1 ? 3 : kWideVectors;  // five as three and two, not four and one
}

// All rows and columns against one block of terms.
template <bool kListed>
void contract_block(const Contraction& whole, TileArguments& t) {
  for (std::int64_t column = 0; column < whole.columns;) {
    const int vectors = panel_vectors(whole.columns - column);
    const std::int64_t width = std::min<std::int64_t>(vectors * kLanes, whole.columns - column);
    const bool masked = width % kLanes != 0;
    t.first_column = column;
    t.last_lanes = static_cast<int>(width - (vectors - 1) * kLanes);
    // Even heights, so that no thin tile is left at the end: `taller` tiles of height + 1, then tiles of height.
    const std::int64_t tiles = (whole.rows + tile_rows(vectors) - 1) / tile_rows(vectors);
    const std::int64_t height = tiles > 0 ? whole.rows / tiles : 0;
    const std::int64_t taller = whole.rows - tiles * height;
    TileFunction tile = choose_tile<kListed>(static_cast<int>(taller > 0 ? height + 1 : height), vectors, masked);
    t.a_rows = whole.a_rows;
    t.c_rows = whole.c_rows;
    for (std::int64_t i = 0; i < tiles; ++i) {
      if (i == taller) tile = choose_tile<kListed>(static_cast<int>(height), vectors, masked);
      tile(t);
      const std::int64_t done = i < taller ? height + 1 : height;
      t.a_rows += done;
      t.c_rows += done;
    }
    column += width;
  }
}

constexpr std::int64_t kBlockTerms =
    kManyRegisters ? 128 : 256;  // 128 x 4 vectors of 64 bytes = 32 KB, 256 x 2 of 32 = 16 KB
constexpr std::int64_t kListedBlockTerms = 64;
constexpr int kBlockSegments = 16;

void contract_strided(const Contraction& whole) {
  std::array<ContractionSegment, kBlockSegments> block;
  TileArguments t{};
  t.segments = block.data();
  t.a_step = whole.a_step;
  t.b_step = whole.b_step;
  t.c = whole.c;
  t.accumulate = whole.accumulate;
  t.start = whole.start;
  int segment = 0;
  std::int64_t done = 0;  // terms of that segment
  do {
    std::int64_t terms = 0;
    t.segment_count = 0;
    while (segment < whole.segment_count && t.segment_count < kBlockSegments && terms < kBlockTerms) {
      const ContractionSegment& source = whole.segments[segment];
      const std::int64_t take = std::min(source.depth - done, kBlockTerms - terms);
      block[t.segment_count++] = {source.a + done * whole.a_step, source.b + done * whole.b_step, take};
      terms += take;
      done += take;
      if (done == source.depth) {
        done = 0;
        ++segment;
      }
    }
    contract_block<false>(whole, t);
    t.accumulate = true;
  } while (segment < whole.segment_count);
}

void contract_listed(const Contraction& whole) {
  std::array<ContractionSegment, kBlockSegments> block;
  TileArguments t{};
  t.segments = block.data();
  t.c = whole.c;
  t.accumulate = whole.accumulate;
  t.start = whole.start;
  const std::int64_t depth = whole.segment_count > 0 ? whole.segments[0].depth : 0;
  const std::int64_t length = std::max<std::int64_t>(kListedBlockTerms / std::max(whole.segment_count, 1), 8);
  std::int64_t done = 0;
  do {
    const std::int64_t take = std::min(depth - done, length);
    t.a_terms = whole.a_terms + done;
    t.b_terms = whole.b_terms + done;
    for (int first = 0; first == 0 || first < whole.segment_count; first += kBlockSegments) {
      t.segment_count = std::min(whole.segment_count - first, kBlockSegments);
      for (int s = 0; s < t.segment_count; ++s)
        block[s] = {whole.segments[first + s].a, whole.segments[first + s].b, take};
      contract_block<true>(whole, t);
      t.accumulate = true;
    }
    done += take;
  } while (done < depth);
}

void contract_any(const Contraction& whole) {
  if (whole.a_terms != nullptr) {
    contract_listed(whole);
  } else {
    contract_strided(whole);
  }
}

void contract_even(const EvenContraction& whole) {
  constexpr std::int64_t kChunk = 240;  // rows; a multiple of every tile height
  std::array<std::int32_t, kChunk> a_rows;
  std::array<std::int32_t, kChunk> c_rows;
  const std::int64_t chunk = std::min(kChunk, whole.rows);
  for (std::int64_t i = 0; i < chunk; ++i) {
    a_rows[i] = static_cast<std::int32_t>(i * whole.a_row_step);
    c_rows[i] = static_cast<std::int32_t>(i * whole.c_step);
  }
  std::array<ContractionSegment, kEvenSegments> segments;
  assert(whole.segment_count <= kEvenSegments);
  for (std::int64_t row = 0; row < whole.rows; row += chunk) {
    Contraction part;
    part.rows = std::min(chunk, whole.rows - row);
    part.columns = whole.columns;
    part.a_rows = a_rows.data();
    part.c_rows = c_rows.data();
    part.segments = segments.data();
    part.a_step = whole.a_term_step;
    part.b_step = whole.b_step;
    part.c = whole.c + row * whole.c_step;
    part.accumulate = whole.accumulate;
    part.start = whole.start;
    part.segment_count = whole.segment_count;
    for (int s = 0; s < part.segment_count; ++s) {
      segments[s] = whole.segments[s];
      segments[s].a += row * whole.a_row_step;
    }
    contract_strided(part);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cumeta
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cumeta {
HWY_EXPORT(contract_any);
HWY_EXPORT(contract_even);

void contract(const Contraction& contraction) { HWY_DYNAMIC_DISPATCH(contract_any)(contraction); }
void contract(const EvenContraction& contraction) { HWY_DYNAMIC_DISPATCH(contract_even)(contraction); }

}  // namespace cumeta
#endif
