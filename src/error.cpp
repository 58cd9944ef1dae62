// SPDX-License-Identifier: Apache-2.0
#include "cumeta/error.h"

namespace cumeta {

// Out of line, so that every exception has one type_info, in libcumeta.
#define CUMETA_ERROR(Name, Base)                      \
  Name::Name(const std::string& text) : Base(text) {} \
  Name::~Name() = default;
CUMETA_ERROR(Error, std::runtime_error)
CUMETA_ERROR(InvalidArgument, Error)
CUMETA_ERROR(FileError, Error)
CUMETA_ERROR(DeviceUnavailable, Error)
CUMETA_ERROR(PluginMismatch, DeviceUnavailable)
CUMETA_ERROR(OutOfMemory, Error)
CUMETA_ERROR(DeviceFault, Error)
CUMETA_ERROR(NonFinite, Error)
#undef CUMETA_ERROR

}  // namespace cumeta
