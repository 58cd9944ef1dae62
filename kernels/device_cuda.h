// SPDX-License-Identifier: Apache-2.0
// Opening a CUDA device, inside the plugin.
#pragma once
#include "kernels/backend_cuda.h"

namespace cumeta {

/// Selects the device for this thread. Throws DeviceUnavailable: no driver, too old, no device, no such ordinal, no
/// kernels for it, or no tensor cores for `tf32`.
DeviceModel open_device(int ordinal, bool tf32);

/// Bytes that nobody holds on the device; selects it for this thread. Throws as open_device does.
std::size_t free_cuda_memory(int ordinal);

/// CUMETA_CUDA_DEBUG=1: nothing is recorded and every kernel is waited for, so that a fault names its op.
bool cuda_debug();

}  // namespace cumeta
