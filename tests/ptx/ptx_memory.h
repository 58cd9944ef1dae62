// SPDX-License-Identifier: Apache-2.0
// Memory that remembers, for every byte, whether it was written, by whom and when: races, reads before writes and
// accesses out of bounds are faults.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/ptx/ptx_module.h"

namespace cumeta::ptx {

/// Barrier intervals of other blocks that a block knows to be over: start -> end, one entry a block.
using Knowledge = std::map<std::int64_t, std::int64_t>;
inline void learn(Knowledge& knowledge, const Knowledge& more) {
  for (const auto& [start, end] : more) {
    std::int64_t& known = knowledge[start];
    known = std::max(known, end);
  }
}
inline bool knows(const Knowledge& knowledge, std::int64_t interval) {
  const auto after = knowledge.upper_bound(interval);
  return after != knowledge.begin() && interval <= std::prev(after)->second;
}

/// Who accesses, and what happened before: accesses of one block are ordered by its barriers, of one warp by
/// bar.warp.sync too; blocks of one launch only by atomics with fences, as Knowledge.
struct Accessor {
  int thread = 0;
  /// Clocks of the warp's lanes as this lane last saw them; its own entry is its time.
  const std::array<int, 32>* seen = nullptr;
  std::int64_t launch = 0, block = 0,
               interval = 0;  ///< numbers that only grow: when this launch, block, barrier interval began
  const Knowledge* knowledge = nullptr;
  int latest = 0;  ///< no entry of `seen` is later
  int lane() const { return thread % 32; }
  int warp() const { return thread / 32; }
  int now() const { return (*seen)[static_cast<std::size_t>(lane())]; }
  bool saw(int lane, int time) const { return (*seen)[static_cast<std::size_t>(lane)] > time; }
};

/// strong: a relaxed or volatile load, which may watch another block's atomics.
enum class Access { read, write, atomic, strong };

/// One byte's history.
struct Shadow {
  std::int64_t written = -1, read = -1, first_read = -1;  ///< barrier intervals; first_read: earliest of this launch
  int writer = -1, write_time = 0;
  int read_warp = -1, read_time = 0;
  std::uint32_t readers = 0;                                                          ///< lanes of read_warp
  bool initialised = false, atomic = false, many_warps = false, strong_reads = true;  ///< all reads of `read` strong
  int pending = -1;  ///< the thread whose cp.async will write here
};

/// A range of bytes with its history.
class CheckedBytes {
 public:
  CheckedBytes(std::string name, std::size_t size, bool initialised);
  /// Bytes of somebody else's, all initialised.
  CheckedBytes(std::string name, std::uint8_t* data, std::size_t size);
  /// Checks [offset, offset + count) and records the access. Throws Fault; `where` begins its text.
  void touch(std::size_t offset, int count, Access access, const Accessor& who);
  /// cp.async: the bytes are the thread's until it waits; nobody may look.
  void announce(std::size_t offset, int count, const Accessor& who);
  void arrive(std::size_t offset, int count);
  std::uint8_t* data() { return data_; }
  std::size_t size() const { return size_; }
  void set_initialised(std::size_t offset, std::size_t count);
  bool initialised(std::size_t offset) { return shadow(offset).initialised; }
  const std::string& name() const { return name_; }

 private:
  [[noreturn]] void fail(FaultKind kind, std::size_t offset, const std::string& what) const;
  void check_race(std::size_t offset, const Shadow& shadow, Access access, const Accessor& who) const;
  static void record(Shadow& shadow, Access access, const Accessor& who);

  Shadow& shadow(std::size_t offset);

  static constexpr std::size_t page_bytes = 1024;  ///< histories are kept for the pages that are touched
  std::string name_;
  std::vector<std::uint8_t> own_;
  std::uint8_t* data_;
  std::size_t size_;
  bool born_initialised_;
  std::vector<std::unique_ptr<std::array<Shadow, page_bytes>>> pages_;
};

/// The device's memory: arrays far apart, so that a step over the end of one never lands in another.
class GlobalMemory {
 public:
  std::uint64_t allocate(const std::string& name, std::size_t size, bool initialised);
  void place(std::uint64_t address, const std::string& name, std::size_t size);
  /// Asked for addresses that no array holds: {start, bytes} of the array that does, or {nullptr, 0}.
  using Owner = std::pair<std::uint8_t*, std::size_t> (*)(const void* address);
  void set_owner(Owner owner) { owner_ = owner; }
  /// Forgets what `owner` gave: its arrays may come and go between launches.
  void forget_owned();
  /// The array that holds all of [address, address + count) and the offset in it. Throws Fault{bounds}.
  std::pair<CheckedBytes*, std::size_t> find(std::uint64_t address, int count);

 private:
  std::map<std::uint64_t, CheckedBytes> arrays_, owned_;
  Owner owner_ = nullptr;
  std::uint64_t next_ = 0x7000'0000'0000;
  std::pair<const std::uint64_t, CheckedBytes>* last_ = nullptr;
};

}  // namespace cumeta::ptx
