// SPDX-License-Identifier: Apache-2.0
// What a backend that draws its own episodes keeps: the stream's name, and the sinusoid's ranges or the resident
// images.
#pragma once
#include <cstdint>
#include <span>
#include <variant>

#include "cumeta/shape.h"
#include "kernels/tools/episode_draws.h"

namespace cumeta {

struct SinusoidEpisodes {
  SinusoidRanges ranges;
  int rows;  // per task
};

/// Image i of folder c is number class_begin[c] + i, shape.size() bytes each. The spans live as long as the Episodes.
struct ImageEpisodes {
  EpisodeRows rows;
  Shape shape;
  std::span<const std::uint8_t> pixels;
  std::span<const std::uint32_t> class_begin;  // one more than folders
  bool rotations;
  std::uint32_t folders() const { return static_cast<std::uint32_t>(class_begin.size() - 1); }
};

/// Task j of iteration i draws from Draws(seed, purpose, i, j).
struct EpisodeTables {
  std::uint64_t seed;
  Purpose purpose;
  std::variant<SinusoidEpisodes, ImageEpisodes> kind;
};

}  // namespace cumeta
