// SPDX-License-Identifier: Apache-2.0
// How a plan learns what is free on a device. Apart from plugin.h: no kernel knows it.
#pragma once
#include <cstddef>

#include "kernels/plugin.h"

namespace cumeta {

/// The plugin's exported function cumeta_plugin_free_memory: bytes that nobody holds on the device. Throws as opening
/// the device does.
using PluginFreeMemory = std::size_t (*)(const Host* host, int ordinal);

}  // namespace cumeta
