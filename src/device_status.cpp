// SPDX-License-Identifier: Apache-2.0
// The devices of this machine as `cumeta info` lists them, and why CUDA cannot be used where it cannot.
#include <fmt/format.h>

#include "cumeta/device.h"
#include "src/cuda_plugin.h"

namespace cumeta {

std::vector<DeviceStatus> device_status() {
  std::vector<DeviceStatus> list{{Device::reference, true, "plain loops in double"},
                                 {Device::cpu, true, cpu_machine().name}};
  const CudaStatus cuda = cuda_status();
  if (!cuda.problem.empty()) list.push_back({Device::cuda, false, cuda.problem});
  for (const CudaDevice& device : cuda.devices)
    list.push_back(
        {Device::cuda, true,
         fmt::format("{}: {}{}, compute capability {}.{}, {} multiprocessors, {:.1f} GiB; {}", device.ordinal,
                     device.name, cuda.emulated ? " (emulated)" : "", device.capability / 10, device.capability % 10,
                     device.multiprocessors, static_cast<double>(device.memory) / 1073741824.0, cuda.plugin)});
  return list;
}

}  // namespace cumeta
