// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: Philox4x32-10 of (seed, purpose, iteration, task, draw index); host and device alike.
// key     = {seed low, seed high}
// counter = {index / 4, task, iteration low, iteration bits 32..55 | purpose << 24};  draw = word index % 4 of the
// block. No two purposes, iterations (below 2^56) or tasks ever share a counter.
#pragma once
#include <Random123/philox.h>

#include <cmath>
#include <cstdint>

#include "kernels/array.h"  // CUMETA_HD

namespace cumeta {

/// What numbers are drawn for; the first three are the subsets of the data, in their order. Never renumber: a value
/// here is part of every stream.
enum class Purpose : std::uint32_t {
  train = 0,
  validation = 1,
  test = 2,
  initial_values = 3,
  class_split = 4,
  mini_batches = 5
};

/// The stream of one task (or of one array of initial values): draw(0), draw(1), ... in any order, of any number type.
/// It keeps the last block of four words, so neighbouring draws cost a quarter of a Philox each.
class Draws {
 public:
  CUMETA_HD Draws(std::uint64_t seed, Purpose purpose, std::uint64_t iteration, std::uint32_t task)
      : key_{{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)}},
        counter_{
            {no_block, task, static_cast<std::uint32_t>(iteration),
             (static_cast<std::uint32_t>(iteration >> 32) & 0xFFFFFFU) | static_cast<std::uint32_t>(purpose) << 24}},
        words_{} {}

  /// 32 random bits.
  CUMETA_HD std::uint32_t bits(std::uint32_t index) {
    if (index / 4 != counter_.v[0]) {
      counter_.v[0] = index / 4;
      words_ = philox4x32_R(10, counter_, key_);
    }
    // Chosen by comparisons: an index computed at run time would put the block into local memory on the device.
    const std::uint32_t word = index % 4;
    return word < 2 ? (word == 0 ? words_.v[0] : words_.v[1]) : (word == 2 ? words_.v[2] : words_.v[3]);
  }
  /// One of 0 ... remaining - 1: the high half of bits * remaining.
  CUMETA_HD std::uint32_t choose(std::uint32_t index, std::uint32_t remaining) {
    return static_cast<std::uint32_t>((static_cast<std::uint64_t>(bits(index)) * remaining) >> 32);
  }
  /// [0, 1): the 24 high bits times 2^-24, exact in float.
  CUMETA_HD float uniform(std::uint32_t index) { return static_cast<float>(bits(index) >> 8) * 0x1p-24F; }
  /// [low, high]: one rounding of high - low, then one fused multiply-add; the same bits on host and device.
  CUMETA_HD float uniform(std::uint32_t index, float low, float high) {
    return ::fmaf(uniform(index), high - low, low);
  }
  /// (0, 1), for initial values on the host: (bits + 1/2) * 2^-32, exact in double.
  double uniform_double(std::uint32_t index) { return (static_cast<double>(bits(index)) + 0.5) * 0x1p-32; }
  /// Standard normal, for initial values on the host: Box-Muller in double; normal i uses the draws 2i and 2i + 1.
  double normal(std::uint32_t index) {
    const double radius = std::sqrt(-2.0 * std::log(uniform_double(2 * index)));
    return radius * std::cos(6.283185307179586476925 * uniform_double(2 * index + 1));
  }

 private:
  static constexpr std::uint32_t no_block = 0xFFFFFFFFU;  // index / 4 never reaches it

  philox4x32_key_t key_;
  philox4x32_ctr_t counter_;
  philox4x32_ctr_t words_;
};

}  // namespace cumeta
