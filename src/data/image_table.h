// SPDX-License-Identifier: Apache-2.0
// The images of one subset, as bytes, class after class; and the N-way K-shot Q-query tasks drawn from them.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "cumeta/data.h"
#include "kernels/tools/episode_draws.h"
#include "src/data/task_numbers.h"

namespace cumeta {

struct ImageTable {
  std::string where;  ///< for messages: the folder and the subset
  Shape shape{};
  std::vector<std::uint8_t> pixels;
  std::vector<std::uint32_t> class_begin{0};
  std::vector<std::string> class_names;
  bool rotations = false;
  std::string more;  ///< what gives the subset more classes, for messages

  int folders() const { return static_cast<int>(class_names.size()); }
  int classes() const { return folders() * (rotations ? 4 : 1); }
};

const char* name_of(Subset subset);

class ImageTasks {
 public:
  /// InvalidArgument when the table has too few classes, or a class too few images, for the episode.
  ImageTasks(ImageTable table, EpisodeRows rows);
  SourceSizes sizes() const;
  void draw(const TaskName& name, float* x, float* t) const;
  ImageView view() const;

 private:
  void copy_image(std::uint32_t image, int quarter_turns, float* x) const;

  ImageTable table_;
  EpisodeRows rows_;
};

}  // namespace cumeta
