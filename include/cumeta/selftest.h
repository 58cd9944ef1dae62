// SPDX-License-Identifier: Apache-2.0
// A device proves itself: closed forms of every algorithm, and every layer's passes against the reference.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "cumeta/device.h"
#include "cumeta/export.h"

namespace cumeta {

struct SelftestRow {
  std::string group;   ///< "closed form" or "layer"
  std::string name;    ///< "A maml meta-gradient", "conv2d tangent_backward"
  double error = 0;    ///< largest |difference| over largest |expected|
  double allowed = 0;  ///< the row fails when error is larger or not a number
  bool passed = false;
};

/// Throws DeviceUnavailable when the device is not there. `seed` draws the random sizes and values of the layers.
CUMETA_API std::vector<SelftestRow> selftest(Device device, int ordinal = 0, std::uint64_t seed = 1);

}  // namespace cumeta
