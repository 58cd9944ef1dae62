// SPDX-License-Identifier: Apache-2.0
// The CPU's one contraction, C[i][:] (+)= sum over segments s and terms k of A_s[i, k] * B_s[k][:], for rows anywhere
// in memory.
#pragma once

#include <cstdint>

namespace cumeta {

/// One run of terms: `a` and `b` are the origins that the offsets of the contraction count from.
struct ContractionSegment {
  const float* a;
  const float* b;
  std::int64_t depth;
};

/// C[c_rows[i] + j] (+)= sum_s sum_{k < depth_s} a_s[a_rows[i] + A(k)] * b_s[B(k) + j],  i < rows, j < columns.
/// Strided form (a_terms == nullptr): A(k) = k * a_step, B(k) = k * b_step. This is y = x W, a convolution, and their
/// backward-data. Listed form: A(k) = a_terms[k], B(k) = b_terms[k], all segments of equal depth. This is dW = x' dy
/// over any pixels of any images.
///
/// Every element of C is one chain of multiply-adds whose order follows from the segments (and, in the listed form with
/// several segments, from the block length of the SIMD target), so it does not depend on how rows and columns are
/// grouped into tiles. C overlaps neither A nor B. Rows of C do not overlap.
struct Contraction {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const std::int32_t* a_rows = nullptr;
  const std::int32_t* c_rows = nullptr;
  const ContractionSegment* segments = nullptr;
  int segment_count = 0;
  std::int64_t a_step = 1;
  std::int64_t b_step = 0;
  const std::int32_t* a_terms = nullptr;
  const std::int32_t* b_terms = nullptr;
  float* c = nullptr;
  bool accumulate = false;
  const float* start = nullptr;  ///< without accumulate: every row of C begins as this one (a bias) instead of zero
};

void contract(const Contraction& contraction);

/// Segments of an EvenContraction: the two terms of a tangent, and room for as many again.
constexpr int kEvenSegments = 4;

/// C[i * c_step + :] (+)= sum_s sum_k a_s[i * a_row_step + k * a_term_step] * b_s[k * b_step + :] for evenly spaced
/// rows.
struct EvenContraction {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t a_row_step = 0;
  std::int64_t a_term_step = 1;
  std::int64_t b_step = 0;
  std::int64_t c_step = 0;
  const ContractionSegment* segments = nullptr;
  int segment_count = 0;  ///< at most kEvenSegments
  float* c = nullptr;
  bool accumulate = false;
  const float* start = nullptr;  ///< without accumulate: every row of C begins as this one (a bias) instead of zero
};

void contract(const EvenContraction& contraction);

}  // namespace cumeta
