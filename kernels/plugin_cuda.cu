// SPDX-License-Identifier: Apache-2.0
// The plugin's exported functions, and its errors: every exception is thrown by the host.
#include <cstdlib>
#include <cstring>
#include <string>

#include "kernels/backend_cuda.h"
#include "kernels/device_cuda.h"
#include "kernels/tools/cuda_check.h"
#include "kernels/tools/cuda_launch.cuh"
#include "plugin_build_id.h"

namespace cumeta {
namespace {
const Host* host_of_plugin = nullptr;

/// What a kernel that went wrong leaves: CUDA refuses this process every call from then on.
bool is_kernel_fault(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
      return true;
    default:
      return false;
  }
}
/// Kernels run behind the calls that queue them, so a later call reports their faults.
std::string remedy_of(cudaError_t error) {
  if (!is_kernel_fault(error)) return {};
  const std::string lost = "; the device is lost to this process, start it again";
  return cuda_debug() ? lost : lost + " with CUMETA_CUDA_DEBUG=1 to see which kernel it was";
}
}  // namespace

void raise(ErrorKind kind, const std::string& text) {
  host_of_plugin->raise(kind, text.c_str());
  std::abort();  // Host::raise throws
}

void raise_cuda(cudaError_t error, Op op, const std::string& details) {
  static_cast<void>(cudaGetLastError());
  const char* file = std::strstr(op.file, "kernels/");
  raise(error == cudaErrorMemoryAllocation ? ErrorKind::out_of_memory : ErrorKind::device_fault,
        std::string("cuda: ") + op.name + ": " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")" +
            (details.empty() ? "" : ", " + details) + ", at " + (file ? file : op.file) + ":" +
            std::to_string(op.line) + remedy_of(error));
}

}  // namespace cumeta

#define CUMETA_PLUGIN_EXPORT extern "C" __attribute__((visibility("default")))

CUMETA_PLUGIN_EXPORT const char* cumeta_plugin_build_id() { return CUMETA_PLUGIN_BUILD_ID; }

CUMETA_PLUGIN_EXPORT int cumeta_plugin_is_emulated() { return cumeta::kEmulated; }

CUMETA_PLUGIN_EXPORT int cumeta_plugin_devices(const cumeta::Host* host, cumeta::CudaDevice* devices, int capacity) {
  cumeta::host_of_plugin = host;
  return cumeta::list_cuda_devices(devices, capacity);
}

CUMETA_PLUGIN_EXPORT std::size_t cumeta_plugin_free_memory(const cumeta::Host* host, int ordinal) {
  cumeta::host_of_plugin = host;
  return cumeta::free_cuda_memory(ordinal);
}

CUMETA_PLUGIN_EXPORT cumeta::Backend* cumeta_open_backend(const char* build_id, const cumeta::Host* host,
                                                          const cumeta::CudaOptions* options) {
  cumeta::host_of_plugin = host;
  if (std::strcmp(build_id, CUMETA_PLUGIN_BUILD_ID) != 0)
    cumeta::raise(cumeta::ErrorKind::plugin_mismatch, std::string("cuda: the plugin is of build ") +
                                                          CUMETA_PLUGIN_BUILD_ID + ", the library of build " +
                                                          build_id + ": install both from one build");
  return cumeta::open_cuda_backend(*options).release();
}
