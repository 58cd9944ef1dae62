// SPDX-License-Identifier: Apache-2.0
// Damaged copies of files, one per seed: cut, flipped, with forged numbers, words and blocks; and what makes a forged
// file pass the checks of form (checksums, lengths), so that the damage reaches the code behind them.
#pragma once
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace cumeta::test {

class Damage {
 public:
  explicit Damage(std::uint64_t seed) : random_(seed) {}

  /// One to three of: cut, flip a bit, overwrite 1 to 8 bytes by an awkward number, erase, insert or copy a block.
  std::string bytes(std::string whole);
  /// One to three of: replace, remove, double or exchange tokens, with awkward numbers, brackets and `words` among the
  /// replacements; now and then bytes() instead.
  std::string text(std::string whole, std::span<const char* const> words);

  /// A safetensors file with its JSON header damaged as text; length and checksum say that all is well.
  std::string safetensors(const std::string& whole);
  /// A PNG with a chunk's length, type or content damaged, doubled, removed or moved; check sums of chunks are right.
  std::string png(const std::string& whole);
  /// A zip with numbers of its directory, of an entry or of its end record forged, in both places where they stand.
  std::string zip(std::string whole);

  std::uint64_t below(std::uint64_t end) { return random_() % end; }

 private:
  void one(std::string& bytes);
  std::uint64_t awkward();
  void overwrite(std::string& bytes, std::size_t at, std::size_t width, std::uint64_t value, bool big_end_first);

  std::mt19937_64 random_;
};

/// The file with its header's length and, if it states one, its checksum put right.
std::string sealed_safetensors(const std::string& header, const std::string& data);

}  // namespace cumeta::test
