// SPDX-License-Identifier: Apache-2.0
// Reads the tab-separated tables beside Omniglot.
#include "src/data/omniglot_tables.h"

#include <fmt/format.h>

#include <charconv>
#include <fstream>

#include "cumeta/error.h"
#include "src/data/file_tree.h"

namespace cumeta {
namespace {

using Row = std::vector<std::string>;

std::vector<Row> read_table(const std::string& path, std::size_t columns) {
  std::ifstream stream(path);
  if (!stream)
    throw FileError(fmt::format("{}: cannot be opened; it belongs beside the data (or choose the random split)", path));
  std::vector<Row> rows;
  for (std::string line; std::getline(stream, line);) {
    if (line.ends_with('\r')) line.pop_back();
    Row row(1);
    for (const char letter : line) {
      if (letter == '\t')
        row.emplace_back();
      else
        row.back().push_back(letter);
    }
    if (row.size() != columns)
      throw FileError(fmt::format("{}: line {} has {} columns, not {}", path, rows.size() + 1, row.size(), columns));
    rows.push_back(std::move(row));
  }
  if (rows.empty() || rows.front().front() != "index")
    throw FileError(fmt::format("{}: its first line does not begin with \"index\"", path));
  rows.erase(rows.begin());
  return rows;
}

std::size_t index_of(const std::string& path, const std::string& text, std::size_t count) {
  std::size_t index = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), index);
  if (failure != std::errc() || end != text.data() + text.size() || index >= count)
    throw FileError(
        fmt::format("{}: index {} is not one of 0 ... {} (the characters found in the images)", path, text, count - 1));
  return index;
}

void check_count(const std::string& path, std::size_t rows, std::size_t characters) {
  if (rows != characters)
    throw FileError(
        fmt::format("{}: has {} characters where the images have {}; table and images do not belong together", path,
                    rows, characters));
}

}  // namespace

void check_characters(const std::string& root, const std::vector<OmniglotCharacter>& found) {
  const std::string path = root + "/omniglot28_classes.tsv";
  if (!is_there(path)) return;
  const std::vector<Row> rows = read_table(path, 5);
  check_count(path, rows.size(), found.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    if (index_of(path, row[0], found.size()) != i || OmniglotCharacter{row[1], row[2], row[3]} != found[i])
      throw FileError(fmt::format("{}: line {} says {}/{}/{} where the images have {}/{}/{}", path, i + 2, row[1],
                                  row[2], row[3], found[i].set, found[i].alphabet, found[i].character));
  }
}

std::vector<std::uint32_t> vinyals_split(const std::string& root, std::size_t characters, Subset subset) {
  const std::string path = root + "/omniglot28_split_vinyals.tsv";
  const std::vector<Row> rows = read_table(path, 2);
  check_count(path, rows.size(), characters);
  const std::string wanted = subset == Subset::validation ? "val" : name_of(subset);
  std::vector<bool> seen(characters, false), chosen(characters, false);
  for (const Row& row : rows) {
    const std::size_t index = index_of(path, row[0], characters);
    if (seen[index]) throw FileError(fmt::format("{}: index {} is there twice", path, index));
    seen[index] = true;
    if (row[1] != "train" && row[1] != "val" && row[1] != "test")
      throw FileError(fmt::format("{}: index {} has split {}; splits are train, val, test", path, index, row[1]));
    chosen[index] = row[1] == wanted;
  }
  std::vector<std::uint32_t> result;
  for (std::size_t i = 0; i < characters; ++i)
    if (chosen[i]) result.push_back(static_cast<std::uint32_t>(i));
  return result;
}

}  // namespace cumeta
