// SPDX-License-Identifier: Apache-2.0
// The order in which a block's threads get their turns, drawn anew for each pass:
//   number = (multiplier * position + offset) mod span, span = count rounded up to 2^n
#pragma once
#include <cstdint>

namespace emulator {

struct ThreadOrder {
  uint64_t random = 0;
  unsigned position = 0, span = 1, multiplier = 1, offset = 0;
  // Every other order lets a warp run on past its collectives as far as it can while others have not begun: warps that
  // went side by side would hide a barrier missing between two reductions.
  bool hurry = false;

  uint64_t draw() {  // splitmix64
    uint64_t z = random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }
  void shuffle_order() {
    const uint64_t bits = draw();
    multiplier = unsigned(bits) | 1;
    offset = unsigned(bits >> 32);
    hurry = bits >> 63 != 0;
    position = 0;
  }
};

}  // namespace emulator
