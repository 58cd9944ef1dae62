// SPDX-License-Identifier: Apache-2.0
// Names and sentences of the runtime API's errors; a fault's sentence carries the emulator's report.
#include <cstdio>

#include "tests/emulator/device_state.h"

namespace {

struct Entry {
  cudaError_t error;
  const char *name, *sentence;
};

#define CUMETA_EMULATOR_ERROR(name, sentence) \
  { name, #name, sentence }
constexpr Entry entries[] = {
    CUMETA_EMULATOR_ERROR(cudaSuccess, "no error"),
    CUMETA_EMULATOR_ERROR(cudaErrorInvalidValue, "invalid argument"),
    CUMETA_EMULATOR_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    CUMETA_EMULATOR_ERROR(cudaErrorInitializationError, "initialization error"),
    CUMETA_EMULATOR_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    CUMETA_EMULATOR_ERROR(cudaErrorInvalidSymbol, "invalid device symbol"),
    CUMETA_EMULATOR_ERROR(cudaErrorInvalidDevicePointer, "invalid device pointer"),
    CUMETA_EMULATOR_ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    CUMETA_EMULATOR_ERROR(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"),
    CUMETA_EMULATOR_ERROR(cudaErrorDevicesUnavailable, "CUDA-capable device(s) is/are busy or unavailable"),
    CUMETA_EMULATOR_ERROR(cudaErrorInvalidDeviceFunction, "invalid device function"),
    CUMETA_EMULATOR_ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    CUMETA_EMULATOR_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    CUMETA_EMULATOR_ERROR(cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the device"),
    CUMETA_EMULATOR_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    CUMETA_EMULATOR_ERROR(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
    CUMETA_EMULATOR_ERROR(cudaErrorNotReady, "device not ready"),
    CUMETA_EMULATOR_ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    CUMETA_EMULATOR_ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    CUMETA_EMULATOR_ERROR(cudaErrorLaunchTimeout, "the launch timed out and was terminated"),
    CUMETA_EMULATOR_ERROR(cudaErrorHardwareStackError, "hardware stack error"),
    CUMETA_EMULATOR_ERROR(cudaErrorIllegalInstruction, "an illegal instruction was encountered"),
    CUMETA_EMULATOR_ERROR(cudaErrorInvalidAddressSpace, "operation not supported on global/shared address space"),
    CUMETA_EMULATOR_ERROR(cudaErrorInvalidPc, "invalid program counter"),
    CUMETA_EMULATOR_ERROR(cudaErrorAssert, "device-side assert triggered"),
    CUMETA_EMULATOR_ERROR(cudaErrorMisalignedAddress, "misaligned address"),
    CUMETA_EMULATOR_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    CUMETA_EMULATOR_ERROR(cudaErrorNotPermitted, "operation not permitted"),
    CUMETA_EMULATOR_ERROR(cudaErrorNotSupported, "operation not supported"),
    CUMETA_EMULATOR_ERROR(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    CUMETA_EMULATOR_ERROR(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
    CUMETA_EMULATOR_ERROR(cudaErrorStreamCaptureMerge,
                          "operation would result in a merge of separate capture sequences"),
    CUMETA_EMULATOR_ERROR(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began"),
    CUMETA_EMULATOR_ERROR(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    CUMETA_EMULATOR_ERROR(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream"),
    CUMETA_EMULATOR_ERROR(cudaErrorStreamCaptureImplicit,
                          "operation would make the legacy stream depend on a capturing blocking stream"),
    CUMETA_EMULATOR_ERROR(cudaErrorCapturedEvent,
                          "operation not permitted on an event last recorded in a capturing stream"),
    CUMETA_EMULATOR_ERROR(cudaErrorStreamCaptureWrongThread,
                          "attempt to terminate a thread-local capture sequence from another thread"),
    CUMETA_EMULATOR_ERROR(cudaErrorGraphExecUpdateFailure, "the graph update was not performed"),
    CUMETA_EMULATOR_ERROR(cudaErrorUnknown, "unknown error"),
};
#undef CUMETA_EMULATOR_ERROR

}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
  for (const Entry& entry : entries)
    if (entry.error == error) return entry.name;
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  const char* sentence = "unrecognized error code";
  for (const Entry& entry : entries)
    if (entry.error == error) sentence = entry.sentence;
  emulator::Device& device = emulator::device();
  emulator::Lock lock(device.mutex);
  if (!error || error != device.fault) return sentence;
  static char text[sizeof device.report + 128];
  std::snprintf(text, sizeof text, "%s: %s", sentence, device.report);
  return text;
}
