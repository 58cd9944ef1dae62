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
/// The device asked for is not there; nothing else is used in its place.
struct CUMETA_API DeviceUnavailable : Error {
  explicit DeviceUnavailable(const std::string& text);
  ~DeviceUnavailable() override;
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
