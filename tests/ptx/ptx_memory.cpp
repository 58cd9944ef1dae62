// SPDX-License-Identifier: Apache-2.0
// The rules: two accesses to a byte race when one writes, not both are atomic, and neither happened before the other.
#include "tests/ptx/ptx_memory.h"

namespace cumeta::ptx {

CheckedBytes::CheckedBytes(std::string name, std::size_t size, bool initialised)
    : name_(std::move(name)),
      own_(size, 0xff),
      data_(own_.data()),
      size_(size),
      born_initialised_(initialised),
      pages_(size / page_bytes + 1) {}

CheckedBytes::CheckedBytes(std::string name, std::uint8_t* data, std::size_t size)
    : name_(std::move(name)), data_(data), size_(size), born_initialised_(true), pages_(size / page_bytes + 1) {}

Shadow& CheckedBytes::shadow(std::size_t offset) {
  auto& page = pages_[offset / page_bytes];
  if (!page) {
    page = std::make_unique<std::array<Shadow, page_bytes>>();
    for (Shadow& byte : *page) byte.initialised = born_initialised_;
  }
  return (*page)[offset % page_bytes];
}

void CheckedBytes::set_initialised(std::size_t offset, std::size_t count) {
  for (std::size_t i = offset; i < offset + count; ++i) shadow(i).initialised = true;
}

void CheckedBytes::fail(FaultKind kind, std::size_t offset, const std::string& what) const {
  throw Fault(kind, name_ + " + " + std::to_string(offset) + ": " + what);
}

void CheckedBytes::check_race(std::size_t offset, const Shadow& shadow, Access access, const Accessor& who) const {
  const auto other = [&](const char* what, int thread) {
    fail(FaultKind::race, offset,
         std::string(access == Access::read || access == Access::strong ? "read" : "written") + " by thread " +
             std::to_string(who.thread) + ", " + what + (thread >= 0 ? " by thread " + std::to_string(thread) : "") +
             " without a barrier between");
  };
  const bool strong = access == Access::atomic || access == Access::strong;
  if (shadow.written >= who.launch && !(strong && shadow.atomic)) {
    if (shadow.written < who.block && !knows(*who.knowledge, shadow.written))
      other("written by another block of this launch", -1);
    const bool same_warp = shadow.writer / 32 == who.warp();
    if (shadow.written == who.interval && shadow.writer != who.thread &&
        !(same_warp && who.saw(shadow.writer % 32, shadow.write_time)))
      other("written", shadow.writer);
  }
  if (access == Access::read || access == Access::strong) return;
  if (access == Access::atomic && shadow.strong_reads) return;
  for (const std::int64_t read : {shadow.first_read, shadow.read})
    if (read >= who.launch && read < who.block && !knows(*who.knowledge, read))
      other("read by another block of this launch", -1);
  if (shadow.read != who.interval) return;
  if (shadow.many_warps || shadow.read_warp != who.warp()) other("read by another warp", -1);
  for (int lane = 0; lane < 32; ++lane)
    if ((shadow.readers >> lane & 1) != 0 && lane != who.lane() && !who.saw(lane, shadow.read_time))
      other("read", shadow.read_warp * 32 + lane);
}

void CheckedBytes::record(Shadow& shadow, Access access, const Accessor& who) {
  if (access == Access::write || access == Access::atomic) {
    shadow.written = who.interval;
    shadow.writer = who.thread;
    shadow.write_time = who.now();
    shadow.atomic = access == Access::atomic;
    shadow.initialised = true;
    return;
  }
  if (shadow.first_read < who.launch) {
    shadow.first_read = who.interval;
    shadow.strong_reads = true;
  }
  if (access == Access::read) shadow.strong_reads = false;
  if (shadow.read != who.interval) {
    shadow.read = who.interval;
    shadow.read_warp = who.warp();
    shadow.readers = 0;
    shadow.many_warps = false;
  }
  if (shadow.read_warp != who.warp()) {
    shadow.many_warps = true;
    return;
  }
  // Readers that this lane has since met at a warp barrier are ordered before whatever follows it.
  if (who.latest > shadow.read_time)
    for (int lane = 0; lane < 32; ++lane)
      if ((shadow.readers >> lane & 1) != 0 && who.saw(lane, shadow.read_time)) shadow.readers &= ~(1u << lane);
  shadow.readers |= 1u << who.lane();
  shadow.read_time = who.now();
}

void CheckedBytes::touch(std::size_t offset, int count, Access access, const Accessor& who) {
  for (std::size_t i = offset; i < offset + static_cast<std::size_t>(count); ++i) {
    Shadow& byte = shadow(i);
    if (byte.pending >= 0)
      fail(FaultKind::race, i,
           "used by thread " + std::to_string(who.thread) + " while the cp.async of thread " +
               std::to_string(byte.pending) + " is on its way");
    check_race(i, byte, access, who);
    if (access != Access::write && !byte.initialised)
      fail(FaultKind::uninitialised, i, "read before anything was written");
    record(byte, access, who);
  }
}

void CheckedBytes::announce(std::size_t offset, int count, const Accessor& who) {
  touch(offset, count, Access::write, who);
  for (std::size_t i = offset; i < offset + static_cast<std::size_t>(count); ++i) shadow(i).pending = who.thread;
}

void CheckedBytes::arrive(std::size_t offset, int count) {
  for (std::size_t i = offset; i < offset + static_cast<std::size_t>(count); ++i) shadow(i).pending = -1;
}

std::uint64_t GlobalMemory::allocate(const std::string& name, std::size_t size, bool initialised) {
  const std::uint64_t address = next_;
  arrays_.emplace(address, CheckedBytes(name, size, initialised));
  next_ += (size / 0x1'0000'0000 + 1) * 0x1'0000'0000;
  return address;
}

void GlobalMemory::place(std::uint64_t address, const std::string& name, std::size_t size) {
  arrays_.emplace(address, CheckedBytes(name, size, true));
}

void GlobalMemory::forget_owned() {
  owned_.clear();
  last_ = nullptr;
}

std::pair<CheckedBytes*, std::size_t> GlobalMemory::find(std::uint64_t address, int count) {
  if (last_ == nullptr || address < last_->first || address - last_->first >= last_->second.size()) {
    last_ = nullptr;
    for (auto* arrays : {&arrays_, &owned_}) {
      const auto after = arrays->upper_bound(address);
      if (after == arrays->begin()) continue;
      auto& before = *std::prev(after);
      if (last_ == nullptr || before.first > last_->first) last_ = &before;
    }
    const bool inside = last_ != nullptr && address - last_->first < last_->second.size();
    if (!inside && owner_ != nullptr)
      if (const auto [start, bytes] = owner_(reinterpret_cast<const void*>(address)); start != nullptr) {
        const auto at = reinterpret_cast<std::uint64_t>(start);
        last_ =
            &*owned_.emplace(at, CheckedBytes("the allocation of " + std::to_string(bytes) + " bytes", start, bytes))
                  .first;
      }
    if (last_ == nullptr) throw Fault(FaultKind::bounds, "address " + std::to_string(address) + " is in no array");
  }
  const std::uint64_t offset = address - last_->first;
  if (offset + static_cast<std::uint64_t>(count) > last_->second.size())
    throw Fault(FaultKind::bounds, std::to_string(count) + " bytes at " + last_->second.name() + " + " +
                                       std::to_string(offset) + ", which has " + std::to_string(last_->second.size()));
  return {&last_->second, static_cast<std::size_t>(offset)};
}

}  // namespace cumeta::ptx
