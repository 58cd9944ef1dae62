// SPDX-License-Identifier: Apache-2.0
// N-way K-shot Q-query tasks: classes without replacement, then images of each class without replacement.
#include "src/data/image_table.h"

#include <fmt/format.h>

#include <array>

#include "cumeta/error.h"

namespace cumeta {

const char* name_of(Subset subset) {
  switch (subset) {
    case Subset::train:
      return "train";
    case Subset::validation:
      return "validation";
    case Subset::test:
      break;
  }
  return "test";
}

ImageTasks::ImageTasks(ImageTable table, EpisodeRows rows) : table_(std::move(table)), rows_(rows) {
  if (table_.classes() < rows.ways)
    throw InvalidArgument(fmt::format("{}: {} classes are too few for {} ways; lower data.ways, or {}", table_.where,
                                      table_.classes(), rows.ways,
                                      table_.more.empty() ? "choose another split" : table_.more));
  if (rows.shuffled && rows.ways * rows.shots > most_choices)
    throw InvalidArgument(
        fmt::format("{}: {} ways of {} shots are more support rows than can be shuffled ({}); lower data.shots",
                    table_.where, rows.ways, rows.shots, most_choices));
  for (int c = 0; c < table_.folders(); ++c) {
    const auto place = static_cast<std::size_t>(c);
    const std::uint32_t images = table_.class_begin[place + 1] - table_.class_begin[place];
    if (images < static_cast<std::uint32_t>(rows.shots + rows.query))
      throw InvalidArgument(
          fmt::format("{}: class {} has {} images, too few for {} shots and {} query images; lower data.shots or "
                      "data.query",
                      table_.where, table_.class_names[place], images, rows.shots, rows.query));
  }
}

SourceSizes ImageTasks::sizes() const {
  return {.support = rows_.ways * rows_.shots,
          .query = rows_.ways * rows_.query,
          .input = table_.shape,
          .targets = 1,
          .ways = rows_.ways,
          .classes = table_.classes()};
}

ImageView ImageTasks::view() const {
  return {table_.shape, table_.pixels, table_.class_begin, table_.rotations, table_.class_names};
}

void ImageTasks::draw(const TaskName& name, float* x, float* t) const {
  Draws draws = name.draws();
  const auto size = static_cast<std::size_t>(table_.shape.size());
  const auto per_class = static_cast<std::uint32_t>(rows_.shots + rows_.query);
  std::array<std::uint32_t, most_choices> class_position, image_position;
  for (int label = 0; label < rows_.ways; ++label) {
    const auto step = static_cast<std::uint32_t>(label);
    class_position[step] = fisher_yates_position(draws, 0, step, static_cast<std::uint32_t>(table_.classes()));
  }
  std::array<std::uint32_t, most_choices> order, place;  // place[row label by label] = row after shuffling
  const auto support = static_cast<std::uint32_t>(rows_.ways * rows_.shots);
  if (rows_.shuffled)
    for (std::uint32_t row = 0; row < support; ++row) {
      order[row] = fisher_yates_position(draws, rows_.shuffle_draw(), row, support);
      place[fisher_yates_choice(order.data(), row)] = row;
    }
  for (int label = 0; label < rows_.ways; ++label) {
    const std::uint32_t chosen = fisher_yates_choice(class_position.data(), static_cast<std::uint32_t>(label));
    const std::uint32_t folder = table_.rotations ? chosen / 4 : chosen;
    const int quarter_turns = table_.rotations ? static_cast<int>(chosen % 4) : 0;
    const std::uint32_t begin = table_.class_begin[folder], images = table_.class_begin[folder + 1] - begin;
    for (std::uint32_t e = 0; e < per_class; ++e) {
      image_position[e] = fisher_yates_position(draws, rows_.image_draw(label), e, images);
      const std::uint32_t image = begin + fisher_yates_choice(image_position.data(), e);
      std::size_t row = rows_.row(label, static_cast<int>(e));
      if (rows_.shuffled && row < support) row = place[row];
      copy_image(image, quarter_turns, x + row * size);
      t[row] = static_cast<float>(label);
    }
  }
}

void ImageTasks::copy_image(std::uint32_t image, int quarter_turns, float* x) const {
  const int height = table_.shape.height, width = table_.shape.width, channels = table_.shape.channels;
  const std::uint8_t* bytes =
      table_.pixels.data() + static_cast<std::size_t>(image) * static_cast<std::size_t>(table_.shape.size());
  if (quarter_turns == 0) {
    for (int i = 0; i < table_.shape.size(); ++i) x[i] = pixel_value(bytes[i]);
    return;
  }
  // A turn is linear in y and x, so three of its values give them all.
  const int first = turned_pixel(quarter_turns, height, 0, 0) * channels;
  const int down = turned_pixel(quarter_turns, height, 1, 0) * channels - first;
  const int right = turned_pixel(quarter_turns, height, 0, 1) * channels - first;
  for (int y = 0; y < height; ++y)
    for (int column = 0; column < width; ++column) {
      const std::uint8_t* from = bytes + (first + y * down + column * right);
      for (int c = 0; c < channels; ++c) *x++ = pixel_value(from[c]);
    }
}

}  // namespace cumeta
