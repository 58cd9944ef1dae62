// SPDX-License-Identifier: Apache-2.0
// From opened episodes to what a backend needs to draw them itself.
#include "src/data/tables_of.h"

#include "src/data/sinusoid_tasks.h"

namespace cumeta {

std::optional<EpisodeTables> tables_of(const Episodes& episodes) {
  EpisodeTables tables{episodes.seed(), static_cast<Purpose>(episodes.subset()), {}};
  if (const Sinusoid* family = episodes.sinusoid()) {
    tables.kind = SinusoidEpisodes{ranges_of(*family), family->shots + family->query};
    return tables;
  }
  const ImageView images = episodes.images();
  if (images.class_begin.empty()) return std::nullopt;
  const int ways = episodes.ways();
  const bool shuffled = std::visit(
      [](const auto& source) {
        if constexpr (requires { source.shuffle; })
          return source.shuffle;
        else
          return false;
      },
      episodes.source());
  tables.kind = ImageEpisodes{{ways, episodes.support() / ways, episodes.query() / ways, shuffled},
                              images.shape,
                              images.pixels,
                              images.class_begin,
                              images.rotations};
  return tables;
}

}  // namespace cumeta
