// SPDX-License-Identifier: Apache-2.0
// Every message of a recipe is made here: file, key, the value and what it may be.
#include "app/section.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "app/nearest.h"
#include "cumeta/error.h"

namespace cumeta::app {
namespace {

std::string shown(const toml::node* node) {
  if (node == nullptr) return "nothing";
  if (const auto real = node->as_floating_point())
    return fmt::format("{}", real->get());  // 0.1, not 0.10000000000000001
  std::ostringstream out;
  node->visit([&](const auto& value) { out << value; });
  std::string text = out.str();
  std::replace(text.begin(), text.end(), '\n', ' ');
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
}

/// A number, or NaN when the node is none.
double value_of(const toml::node& node) {
  if (const auto whole = node.as_integer()) return static_cast<double>(whole->get());
  if (const auto real = node.as_floating_point()) return real->get();
  return std::nan("");
}

}  // namespace

std::int64_t bytes_from(const std::string& text) {
  std::size_t end = 0;
  double amount = 0;
  try {
    amount = std::stod(text, &end);
  } catch (const std::exception&) { return -1; }
  while (end < text.size() && text[end] == ' ') ++end;
  const std::string unit = text.substr(end);
  const std::pair<const char*, double> units[] = {{"", 1},
                                                  {"B", 1},
                                                  {"kB", 1e3},
                                                  {"MB", 1e6},
                                                  {"GB", 1e9},
                                                  {"KiB", 1024.0},
                                                  {"MiB", 1024.0 * 1024},
                                                  {"GiB", 1024.0 * 1024 * 1024}};
  for (const auto& [name, factor] : units)
    if (unit == name && amount >= 0 && amount * factor < 9e18) return static_cast<std::int64_t>(amount * factor);
  return -1;
}

UnknownKey::UnknownKey(const std::string& of_file, const std::string& of_section, const std::string& full_key,
                       const std::string& nearest)
    : InvalidArgument(fmt::format("{}: unknown key {}; did you mean {}?", of_file, full_key, nearest)),
      file(of_file),
      section(of_section),
      key(full_key) {}

Section::Section(const toml::table* table, std::string name, std::string file, Asked* asked)
    : table_(table), name_(std::move(name)), file_(std::move(file)), asked_(asked) {}

std::string Section::full(const std::string& key) const { return name_.empty() ? key : name_ + "." + key; }

const toml::node* Section::find(const std::string& key) {
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) {
    known_.push_back(key);
    if (asked_ != nullptr) asked_->keys.push_back(full(key));
  }
  return table_ == nullptr ? nullptr : table_->get(key);
}
bool Section::has(const std::string& key) const { return table_ != nullptr && table_->get(key) != nullptr; }

void Section::refuse(const std::string& key, const std::string& why) const {
  const toml::node* node = table_ == nullptr ? nullptr : table_->get(key);
  throw InvalidArgument(fmt::format("{}: {}{} {}", file_, full(key), node ? " = " + shown(node) : "", why));
}

void Section::refuse_choice(const std::string& key, const std::string& word,
                            const std::vector<std::string>& names) const {
  refuse(key, fmt::format("is not one of {}; did you mean \"{}\"?", fmt::join(names, ", "), nearest(word, names)));
}

void Section::only_with(std::initializer_list<const char*> keys, const std::string& what) const {
  for (const char* key : keys)
    if (has(key)) refuse(key, fmt::format("goes with {} only; leave the key out", what));
}

double Section::number(const std::string& key, double fallback, double low, double high) {
  const toml::node* node = find(key);
  if (node == nullptr) return fallback;
  const double value = value_of(*node);
  if (!(value >= low && value <= high)) refuse(key, fmt::format("is not a number from {} to {}", low, high));
  return value;
}

double Section::number(const std::string& key, double fallback) {
  const toml::node* node = find(key);
  if (node == nullptr) return fallback;
  const double value = value_of(*node);
  if (!std::isfinite(value)) refuse(key, "is not a finite number");
  return value;
}

std::int64_t Section::whole(const std::string& key, std::int64_t fallback, std::int64_t low, std::int64_t high) {
  const toml::node* node = find(key);
  if (node == nullptr) return fallback;
  std::int64_t value = 0;
  bool good = false;
  if (const auto exact = node->as_integer())
    value = exact->get(), good = true;
  else if (const double real = value_of(*node); std::fabs(real) < 1e15 && real == std::floor(real))
    value = static_cast<std::int64_t>(real), good = true;
  if (!good || value < low || value > high) refuse(key, fmt::format("is not a whole number from {} to {}", low, high));
  return value;
}

int Section::integer(const std::string& key, int fallback, int low, int high) {
  const std::int64_t value = whole(key, fallback, low, high);
  return static_cast<int>(value);
}

bool Section::flag(const std::string& key, bool fallback) {
  const toml::node* node = find(key);
  if (node == nullptr) return fallback;
  const auto value = node->as_boolean();
  if (value == nullptr) refuse(key, "is neither true nor false");
  return value->get();
}

std::string Section::text(const std::string& key, const std::string& fallback) {
  const toml::node* node = find(key);
  if (node == nullptr) return fallback;
  const auto value = node->as_string();
  if (value == nullptr) refuse(key, "is not a string; write it in quotes");
  return value->get();
}

std::vector<int> Section::integers(const std::string& key, const std::vector<int>& fallback, int low) {
  const toml::node* node = find(key);
  if (node == nullptr) return fallback;
  const toml::array* array = node->as_array();
  std::vector<int> all;
  if (array != nullptr)
    for (const toml::node& element : *array) {
      const double value = value_of(element);
      if (!(value >= low && value <= 1e9 && value == std::floor(value))) array = nullptr;
      if (array == nullptr) break;
      all.push_back(static_cast<int>(value));
    }
  if (array == nullptr) refuse(key, fmt::format("is not a list of whole numbers of at least {}", low));
  return all;
}

std::vector<double> Section::numbers(const std::string& key, double most) {
  const toml::node* node = find(key);
  if (node == nullptr) return {};
  const toml::array* array = node->as_array();
  std::vector<double> all;
  if (array == nullptr || array->empty()) refuse(key, "is not a list of numbers");
  for (const toml::node& element : *array) {
    all.push_back(value_of(element));
    if (!(std::abs(all.back()) <= most))
      refuse(key, fmt::format("is not a list of numbers from {} to {}", -most, most));
  }
  return all;
}

std::array<float, 2> Section::range(const std::string& key, std::array<float, 2> fallback) {
  const toml::node* node = find(key);
  if (node == nullptr) return fallback;
  const toml::array* array = node->as_array();
  if (array == nullptr || array->size() != 2) refuse(key, "is not a range; write [low, high]");
  const double low = value_of(*array->get(0)), high = value_of(*array->get(1));
  if (!std::isfinite(low) || !std::isfinite(high) || low > high) refuse(key, "is not a range; write [low, high]");
  return {static_cast<float>(low), static_cast<float>(high)};
}

std::int64_t Section::bytes(const std::string& key, std::int64_t fallback) {
  const toml::node* node = find(key);
  if (node == nullptr) return fallback;
  std::int64_t value = -1;
  if (const auto exact = node->as_integer())
    value = exact->get();
  else if (const auto words = node->as_string())
    value = bytes_from(words->get());
  if (value < 0) refuse(key, "is not an amount of memory; write bytes or \"512 MiB\"");
  return value;
}

Section Section::table(const std::string& key) {
  const toml::node* node = find(key);
  if (node != nullptr && !node->is_table()) refuse(key, "is not a table; write { key = value, ... }");
  return {node == nullptr ? nullptr : node->as_table(), full(key), file_, asked_};
}

std::vector<Section> Section::tables(const std::string& key, bool& given) {
  const toml::node* node = find(key);
  given = node != nullptr;
  std::vector<Section> all;
  if (!given) return all;
  const toml::array* array = node->as_array();
  if (array == nullptr) refuse(key, "is not a list of tables; write [{ kind = \"...\" }, ...]");
  for (const toml::node& element : *array) {
    if (!element.is_table()) refuse(key, "holds something that is not a table; write [{ kind = \"...\" }, ...]");
    all.emplace_back(element.as_table(), fmt::format("{}[{}]", full(key), all.size()), file_, asked_);
  }
  return all;
}

void Section::finish() const {
  if (table_ == nullptr) return;
  for (const auto& [key, node] : *table_) {
    const std::string word(key.str());
    if (std::find(known_.begin(), known_.end(), word) != known_.end()) continue;
    throw UnknownKey(file_, name_, full(word), full(nearest(word, known_)));
  }
}

}  // namespace cumeta::app
