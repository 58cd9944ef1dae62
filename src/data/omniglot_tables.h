// SPDX-License-Identifier: Apache-2.0
// The two tables beside Omniglot: the order of its classes, and the split of Vinyals et al.
#pragma once
#include <string>
#include <vector>

#include "cumeta/data.h"
#include "src/data/image_table.h"

namespace cumeta {

/// A character as its files are ordered: set ("background" or "evaluation"), alphabet, character.
struct OmniglotCharacter {
  std::string set, alphabet, character;
  friend bool operator==(const OmniglotCharacter&, const OmniglotCharacter&) = default;
};

/// Compares the characters found with omniglot28_classes.tsv, when that is there; FileError names the first difference.
void check_characters(const std::string& root, const std::vector<OmniglotCharacter>& found);

/// The characters of a subset by omniglot28_split_vinyals.tsv; every one of `characters` must be in it exactly once.
std::vector<std::uint32_t> vinyals_split(const std::string& root, std::size_t characters, Subset subset);

}  // namespace cumeta
