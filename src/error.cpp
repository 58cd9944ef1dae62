// SPDX-License-Identifier: Apache-2.0
// The exceptions, out of line so that each has one type_info, in libcumeta.
#include "cumeta/error.h"

#include <algorithm>

namespace cumeta {

namespace {

/// Names and values out of a damaged file may hold anything, megabytes too; a message stays one line that a terminal
/// can show. Its beginning says what and where, its end what to do.
std::string one_line(std::string text) {
  constexpr std::size_t longest = 2000, head = 1200, tail = 600;
  if (text.size() > longest) text = text.substr(0, head) + " ... " + text.substr(text.size() - tail);
  std::replace_if(
      text.begin(), text.end(), [](unsigned char letter) { return letter < 32 || letter == 127; }, '?');
  return text;
}

}  // namespace

Error::Error(const std::string& text) : std::runtime_error(one_line(text)) {}
Error::~Error() = default;

#define CUMETA_ERROR(Name, Base)                      \
  Name::Name(const std::string& text) : Base(text) {} \
  Name::~Name() = default;
CUMETA_ERROR(InvalidArgument, Error)
CUMETA_ERROR(FileError, Error)
CUMETA_ERROR(DeviceUnavailable, Error)
CUMETA_ERROR(DriverMissing, DeviceUnavailable)
CUMETA_ERROR(DriverTooOld, DeviceUnavailable)
CUMETA_ERROR(DeviceMissing, DeviceUnavailable)
CUMETA_ERROR(DeviceUnsupported, DeviceUnavailable)
CUMETA_ERROR(PluginMissing, DeviceUnavailable)
CUMETA_ERROR(PluginMismatch, DeviceUnavailable)
CUMETA_ERROR(OutOfMemory, Error)
CUMETA_ERROR(DeviceFault, Error)
CUMETA_ERROR(NonFinite, Error)
#undef CUMETA_ERROR

}  // namespace cumeta
