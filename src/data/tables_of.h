// SPDX-License-Identifier: Apache-2.0
// From opened episodes to what a backend needs to draw them itself.
#pragma once
#include <optional>

#include "cumeta/data.h"
#include "kernels/episode_tables.h"

namespace cumeta {

/// Nothing for a task file: the host draws and uploads.
std::optional<EpisodeTables> tables_of(const Episodes& episodes);

}  // namespace cumeta
