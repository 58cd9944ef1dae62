// SPDX-License-Identifier: Apache-2.0
// Checks of the numbers that describe an episode.
#include "src/data/checks.h"

#include <fmt/format.h>

#include "cumeta/error.h"
#include "kernels/tools/episode_draws.h"

namespace cumeta {

void check_examples(const char* source, int shots, int query) {
  if (shots < 1) throw InvalidArgument(fmt::format("{}: {} shots; give at least 1", source, shots));
  if (query < 0) throw InvalidArgument(fmt::format("{}: {} query examples; give 0 or more", source, query));
  if (shots > most_choices || query > most_choices - shots)
    throw InvalidArgument(
        fmt::format("{}: {} shots and {} query examples; together at most {}", source, shots, query, most_choices));
}

void check_episode(const char* source, int ways, int shots, int query) {
  if (ways < 1 || ways > most_choices)
    throw InvalidArgument(fmt::format("{}: {} ways; give 1 to {}", source, ways, most_choices));
  check_examples(source, shots, query);
}

}  // namespace cumeta
