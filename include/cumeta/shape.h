// SPDX-License-Identifier: Apache-2.0
// The shape of one example: height x width x channels, stored channels last (NHWC); a plain vector is 1 x 1 x features.
#pragma once

namespace cumeta {

struct Shape {
  int height = 1, width = 1, channels = 0;
  constexpr int size() const { return height * width * channels; }
  friend constexpr bool operator==(const Shape&, const Shape&) = default;
};

/// An image of height x width pixels with `channels` numbers each.
constexpr Shape image(int height, int width, int channels) { return {height, width, channels}; }
/// A vector of `count` numbers.
constexpr Shape features(int count) { return {1, 1, count}; }

}  // namespace cumeta
