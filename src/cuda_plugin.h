// SPDX-License-Identifier: Apache-2.0
// What `cumeta info` and the plan's machine want to know of the CUDA plugin and its devices.
#pragma once
#include <string>
#include <vector>

#include "cumeta/device.h"
#include "kernels/plugin.h"

namespace cumeta {

struct CudaStatus {
  std::string plugin;  ///< the file that is (or would be) loaded
  bool emulated = false;
  std::vector<CudaDevice> devices;
  std::string problem;  ///< why there is no device to use; empty when there is
};
/// Never throws for a device or a plugin that is not there: `problem` says so.
CudaStatus cuda_status();

}  // namespace cumeta
