// SPDX-License-Identifier: Apache-2.0
// Memory that remembers, for every byte, whether it was written, by whom and when: races, reads before writes and
// accesses out of bounds are faults.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/ptx/ptx_module.h"

namespace cumeta::ptx {

/// Who accesses, and what happened before: accesses of one block are ordered by its barriers, of one warp by
/// bar.warp.sync too; blocks of one launch by nothing.
struct Accessor {
  int thread = 0;
  /// Clocks of the warp's lanes as this lane last saw them; its own entry is its time.
  const std::array<int, 32>* seen = nullptr;
  std::int64_t launch = 0, block = 0,
               interval = 0;  ///< numbers that only grow: when this launch, block, barrier interval began
  int lane() const { return thread % 32; }
  int warp() const { return thread / 32; }
  int now() const { return (*seen)[static_cast<std::size_t>(lane())]; }
  bool saw(int lane, int time) const { return (*seen)[static_cast<std::size_t>(lane)] > time; }
};

enum class Access { read, write, atomic };

/// One byte's history.
struct Shadow {
  std::int64_t written = -1, read = -1, first_read = -1;  ///< barrier intervals; first_read: earliest of this launch
  int writer = -1, write_time = 0;
  int read_warp = -1, read_time = 0;
  std::uint32_t readers = 0;  ///< lanes of read_warp
  bool initialised = false, atomic = false, many_warps = false;
  int pending = -1;  ///< the thread whose cp.async will write here
};

/// A range of bytes with its history.
class CheckedBytes {
 public:
  CheckedBytes(std::string name, std::size_t size, bool initialised);
  /// Checks [offset, offset + count) and records the access. Throws Fault; `where` begins its text.
  void touch(std::size_t offset, int count, Access access, const Accessor& who);
  /// cp.async: the bytes are the thread's until it waits; nobody may look.
  void announce(std::size_t offset, int count, const Accessor& who);
  void arrive(std::size_t offset, int count);
  std::uint8_t* data() { return bytes_.data(); }
  std::size_t size() const { return bytes_.size(); }
  void set_initialised(std::size_t offset, std::size_t count);
  bool initialised(std::size_t offset) const { return shadows_[offset].initialised; }
  const std::string& name() const { return name_; }

 private:
  [[noreturn]] void fail(FaultKind kind, std::size_t offset, const std::string& what) const;
  void check_race(std::size_t offset, const Shadow& shadow, Access access, const Accessor& who) const;
  static void record(Shadow& shadow, Access access, const Accessor& who);

  std::string name_;
  std::vector<std::uint8_t> bytes_;
  std::vector<Shadow> shadows_;
};

/// The device's memory: arrays far apart, so that a step over the end of one never lands in another.
class GlobalMemory {
 public:
  std::uint64_t allocate(const std::string& name, std::size_t size, bool initialised);
  void place(std::uint64_t address, const std::string& name, std::size_t size);
  /// The array that holds all of [address, address + count) and the offset in it. Throws Fault{bounds}.
  std::pair<CheckedBytes*, std::size_t> find(std::uint64_t address, int count);

 private:
  std::map<std::uint64_t, CheckedBytes> arrays_;
  std::uint64_t next_ = 0x7000'0000'0000;
  std::pair<const std::uint64_t, CheckedBytes>* last_ = nullptr;
};

}  // namespace cumeta::ptx
