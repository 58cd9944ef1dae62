// SPDX-License-Identifier: Apache-2.0
// What crosses the border between libcumeta and its CUDA plugin: a build id, the host's errors, devices, a Backend.
#pragma once
#include <cstddef>

#include "kernels/backend.h"

namespace cumeta {

/// Which exception of cumeta/error.h the host throws.
enum class ErrorKind : int {
  invalid_argument,
  device_unavailable,
  driver_missing,
  driver_too_old,
  device_missing,
  device_unsupported,
  plugin_mismatch,
  out_of_memory,
  device_fault,
};

/// What a plugin may ask of the library that opened it. It links nothing of the library.
struct Host {
  /// Throws. The exception's type is the host's, so the host and its callers catch it.
  void (*raise)(ErrorKind kind, const char* text);
};

/// One CUDA device as the plugin sees it.
struct CudaDevice {
  char name[256] = {};
  int ordinal = 0;
  int capability = 0;  ///< 90 for sm_90
  int multiprocessors = 0;
  std::size_t memory = 0;         ///< bytes in all
  std::size_t shared_memory = 0;  ///< bytes that a block may opt in to
  int clock_khz = 0;
};

/// The plugin's exported functions, extern "C". Every name has the type beside it.
using PluginBuildId = const char* (*)();                                                 // cumeta_plugin_build_id
using PluginIsEmulated = int (*)();                                                      // cumeta_plugin_is_emulated
using PluginDevices = int (*)(const Host* host, CudaDevice* devices, int capacity);      // cumeta_plugin_devices: count
using PluginOpen = Backend* (*)(const char* build_id, const Host*, const CudaOptions*);  // cumeta_open_backend

}  // namespace cumeta
