// SPDX-License-Identifier: Apache-2.0
// Every error cumeta throws: one line that says what, where, the value and the remedy.
#pragma once
#include <stdexcept>
#include <string>

#include "cumeta/export.h"

namespace cumeta {

/// The root of all errors of this library.
struct CUMETA_API Error : std::runtime_error {
  explicit Error(const std::string& text);
  ~Error() override;
};
/// A value from the caller that cannot be used: a size, a rate, a key, a shape.
struct CUMETA_API InvalidArgument : Error {
  explicit InvalidArgument(const std::string& text);
  ~InvalidArgument() override;
};
/// A file that is missing, truncated, foreign or does not fit the model.
struct CUMETA_API FileError : Error {
  explicit FileError(const std::string& text);
  ~FileError() override;
};
/// The device asked for cannot be used; nothing else is used in its place. The causes that have a remedy of their own
/// are the six types below; a device that another process holds, or that the driver cannot list, is this one.
struct CUMETA_API DeviceUnavailable : Error {
  explicit DeviceUnavailable(const std::string& text);
  ~DeviceUnavailable() override;
};
/// The machine has no NVIDIA driver, or none is loaded.
struct CUMETA_API DriverMissing : DeviceUnavailable {
  explicit DriverMissing(const std::string& text);
  ~DriverMissing() override;
};
/// The driver supports an older CUDA than this build needs.
struct CUMETA_API DriverTooOld : DeviceUnavailable {
  explicit DriverTooOld(const std::string& text);
  ~DriverTooOld() override;
};
/// A driver is there but no device, or none of the ordinal asked for.
struct CUMETA_API DeviceMissing : DeviceUnavailable {
  explicit DeviceMissing(const std::string& text);
  ~DeviceMissing() override;
};
/// The device's compute capability is too old, the plugin holds no kernels for it, or it has no TF32.
struct CUMETA_API DeviceUnsupported : DeviceUnavailable {
  explicit DeviceUnsupported(const std::string& text);
  ~DeviceUnsupported() override;
};
/// There is no CUDA plugin (or vendor plugin) where one is looked for, or the file cannot be loaded.
struct CUMETA_API PluginMissing : DeviceUnavailable {
  explicit PluginMissing(const std::string& text);
  ~PluginMissing() override;
};
/// The CUDA plugin is missing a symbol or was made by another build.
struct CUMETA_API PluginMismatch : DeviceUnavailable {
  explicit PluginMismatch(const std::string& text);
  ~PluginMismatch() override;
};
/// The plan needs more memory than the device or the limit has.
struct CUMETA_API OutOfMemory : Error {
  explicit OutOfMemory(const std::string& text);
  ~OutOfMemory() override;
};
/// A kernel or a call of the device's driver failed.
struct CUMETA_API DeviceFault : Error {
  explicit DeviceFault(const std::string& text);
  ~DeviceFault() override;
};
/// A loss or a gradient is not finite.
struct CUMETA_API NonFinite : Error {
  explicit NonFinite(const std::string& text);
  ~NonFinite() override;
};

}  // namespace cumeta
