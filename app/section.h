// SPDX-License-Identifier: Apache-2.0
// Typed, checked access to one table of a recipe; a key that nobody asked for is an error that names the nearest one.
#pragma once
#include <toml++/toml.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cumeta/error.h"

namespace cumeta::app {

/// A key that nobody asked for. Whoever knows the keys of other kinds and sections can say more than its text.
struct UnknownKey : InvalidArgument {
  UnknownKey(const std::string& of_file, const std::string& of_section, const std::string& full_key,
             const std::string& nearest);
  std::string file, section, key;  ///< key: with its section
};

/// What a parser asked a section for: keys, with their section, and the kinds that its key kind may name.
struct Asked {
  std::vector<std::string> keys, kinds;
};

class Section {
 public:
  /// `table` may be null: every key is absent. `file` and `name` ("algorithm") are for messages. `asked`, if given,
  /// is told of every question.
  Section(const toml::table* table, std::string name, std::string file, Asked* asked = nullptr);

  bool has(const std::string& key) const;
  double number(const std::string& key, double fallback, double low, double high);
  /// Any finite number: what it may be is checked where it is used.
  double number(const std::string& key, double fallback);
  std::int64_t whole(const std::string& key, std::int64_t fallback, std::int64_t low, std::int64_t high);
  int integer(const std::string& key, int fallback, int low, int high = std::numeric_limits<int>::max());
  bool flag(const std::string& key, bool fallback);
  std::string text(const std::string& key, const std::string& fallback);
  std::vector<int> integers(const std::string& key, const std::vector<int>& fallback, int low);
  /// A list of finite numbers of at most `most` either way; none when the key is absent.
  std::vector<double> numbers(const std::string& key, double most);
  std::array<float, 2> range(const std::string& key, std::array<float, 2> fallback);
  /// A number of bytes: 1000000 or "512 MiB".
  std::int64_t bytes(const std::string& key, std::int64_t fallback);
  Section table(const std::string& key);
  /// The tables of an array; `given` tells an absent array from an empty one.
  std::vector<Section> tables(const std::string& key, bool& given);

  template <class Value>
  using Choices = std::initializer_list<std::pair<const char*, Value>>;
  template <class Value>
  Value choice(const std::string& key, const std::string& fallback, Choices<Value> choices) {
    const std::string word = text(key, fallback);
    std::vector<std::string> names;
    for (const auto& [name, value] : choices) {
      if (asked_ != nullptr && key == "kind") asked_->kinds.emplace_back(name);
      names.emplace_back(name);
    }
    for (const auto& [name, value] : choices)
      if (word == name) return value;
    refuse_choice(key, word, names);
  }

  /// After the last question: throws UnknownKey for a key that was never asked for.
  void finish() const;
  /// Throws "file: name.key = value why".
  [[noreturn]] void refuse(const std::string& key, const std::string& why) const;
  /// Throws for any of the keys that is given, though nothing would read it: "goes with `what` only".
  void only_with(std::initializer_list<const char*> keys, const std::string& what) const;
  const std::string& file() const { return file_; }
  const std::string& name() const { return name_; }

 private:
  const toml::node* find(const std::string& key);
  [[noreturn]] void refuse_choice(const std::string& key, const std::string& word,
                                  const std::vector<std::string>& names) const;
  std::string full(const std::string& key) const;

  const toml::table* table_;
  std::string name_, file_;
  Asked* asked_;
  std::vector<std::string> known_;
};

/// "512 MiB", "2e9", "1.5 GB" -> bytes; -1 when it is no amount.
std::int64_t bytes_from(const std::string& text);

}  // namespace cumeta::app
