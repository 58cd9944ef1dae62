// SPDX-License-Identifier: Apache-2.0
// Which CUDA devices there are, and whether one of them can run this plugin's kernels.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "kernels/device_cuda.h"
#include "kernels/tools/cuda_check.h"
#include "kernels/tools/cuda_launch.cuh"

#ifndef CUMETA_CUDA_ARCHITECTURE_LIST
#define CUMETA_CUDA_ARCHITECTURE_LIST "the emulator"
#endif

namespace cumeta {
namespace {

constexpr int kOldestCapability = 75, kOldestTf32Capability = 80;

/// Its image shows whether the plugin holds code for a device.
__global__ void __launch_bounds__(32, 1) probe_kernel() {}

[[noreturn]] void unavailable(ErrorKind why, const std::string& text) { raise(why, "cuda: " + text); }

std::string capability_text(int number) { return std::to_string(number / 10) + "." + std::to_string(number % 10); }
std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

int device_count() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) static_cast<void>(cudaGetLastError());
  if (error == cudaErrorInsufficientDriver) {
    int driver = 0;
    static_cast<void>(cudaDriverGetVersion(&driver));
    if (driver == 0)
      unavailable(ErrorKind::driver_missing,
                  "no NVIDIA driver is loaded; install one for CUDA " + version(CUDART_VERSION));
    unavailable(ErrorKind::driver_too_old, "the driver supports CUDA " + version(driver) + ", this build needs " +
                                               version(CUDART_VERSION) + "; update the driver");
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
    unavailable(ErrorKind::device_missing,
                "a driver is there but no device; check nvidia-smi and CUDA_VISIBLE_DEVICES");
  if (error != cudaSuccess)
    unavailable(ErrorKind::device_unavailable, std::string("devices cannot be listed: ") + cudaGetErrorString(error) +
                                                   " (" + cudaGetErrorName(error) + ")");
  return count;
}

cudaDeviceProp properties_of(int ordinal) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, ordinal), "read a device's properties");
  return properties;
}

}  // namespace

DeviceModel open_device(int ordinal, bool tf32) {
  const int count = device_count();
  if (ordinal < 0 || ordinal >= count)
    unavailable(ErrorKind::device_missing,
                "ordinal " + std::to_string(ordinal) + " was asked for, this machine has " + std::to_string(count) +
                    (count == 1 ? " device: use ordinal 0" : " devices: use 0 to " + std::to_string(count - 1)));
  const cudaDeviceProp properties = properties_of(ordinal);
  DeviceModel model;
  model.ordinal = ordinal;
  model.name = properties.name;
  model.capability = properties.major * 10 + properties.minor;
  model.multiprocessors = properties.multiProcessorCount;
  model.shared_memory = properties.sharedMemPerBlockOptin;
  model.memory = properties.totalGlobalMem;
  model.l2 = static_cast<std::size_t>(properties.l2CacheSize);
  model.emulated = kEmulated;
  const std::string device = "device " + std::to_string(ordinal) + " (" + model.name + ") has compute capability " +
                             capability_text(model.capability);
  if (model.capability < kOldestCapability)
    unavailable(ErrorKind::device_unsupported,
                device + ", the oldest supported is " + capability_text(kOldestCapability));
  if (tf32 && model.capability < kOldestTf32Capability)
    unavailable(ErrorKind::device_unsupported, device + ", TF32 needs " + capability_text(kOldestTf32Capability) +
                                                   "; set device.precision = \"float32\"");
  const cudaError_t selected = cudaSetDevice(ordinal);
  if (selected != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    unavailable(ErrorKind::device_unavailable, device + " and cannot be opened: " + cudaGetErrorString(selected) +
                                                   " (" + cudaGetErrorName(selected) +
                                                   "); another process may hold it");
  }
  cudaFuncAttributes attributes{};
  const cudaError_t image = cudaFuncGetAttributes(&attributes, probe_kernel);
  if (image != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    unavailable(ErrorKind::device_unsupported,
                device +
                    ", for which this plugin holds no kernels (built for " CUMETA_CUDA_ARCHITECTURE_LIST
                    "); build with -DCUMETA_CUDA_ARCHITECTURES=" +
                    std::to_string(model.capability));
  }
  return model;
}

bool cuda_debug() {
  const char* asked = std::getenv("CUMETA_CUDA_DEBUG");
  return asked && *asked == '1';
}

std::size_t free_cuda_memory(int ordinal) {
  open_device(ordinal, false);
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "read a device's free memory");
  return free;
}

int list_cuda_devices(CudaDevice* devices, int capacity) {
  const int count = device_count();
  for (int ordinal = 0; ordinal < std::min(count, capacity); ++ordinal) {
    const cudaDeviceProp properties = properties_of(ordinal);
    CudaDevice& device = devices[ordinal];
    std::snprintf(device.name, sizeof device.name, "%s", properties.name);
    device.ordinal = ordinal;
    device.capability = properties.major * 10 + properties.minor;
    device.multiprocessors = properties.multiProcessorCount;
    device.memory = properties.totalGlobalMem;
    device.shared_memory = properties.sharedMemPerBlockOptin;
    if (cudaDeviceGetAttribute(&device.clock_khz, cudaDevAttrClockRate, ordinal) != cudaSuccess) device.clock_khz = 0;
  }
  return count;
}

}  // namespace cumeta
