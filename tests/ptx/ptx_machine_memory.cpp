// SPDX-License-Identifier: Apache-2.0
// Loads, stores, atomics and asynchronous copies of the machine, through the checked memories.
#include <cstring>

#include "tests/ptx/ptx_arithmetic.h"
#include "tests/ptx/ptx_machine.h"

namespace cumeta::ptx {
namespace {

// Generic addresses of shared and local memory lie in windows of their own.
constexpr std::uint64_t shared_window = 0x5100'0000'0000'0000, local_window = 0x5200'0000'0000'0000;
constexpr std::uint64_t window_bytes = 0x1'0000'0000;

}  // namespace

std::uint64_t Machine::address(const Operand& operand, int index) const {
  if (operand.kind != Operand::Kind::address) throw Fault(FaultKind::unsupported, "an operand that is no address");
  std::uint64_t base = operand.dynamic ? kernel_->static_shared : 0;
  if (operand.reg >= 0)
    base += threads_[static_cast<std::size_t>(index)].registers[static_cast<std::size_t>(operand.reg)];
  return base + operand.value;
}

std::pair<CheckedBytes*, std::size_t> Machine::resolve(Space space, std::uint64_t address, int count, int index) {
  if (space == Space::generic) {
    if (address - shared_window < window_bytes) return resolve(Space::shared, address - shared_window, count, index);
    if (address - local_window < window_bytes) return resolve(Space::local, address - local_window, count, index);
  }
  if (address % static_cast<std::uint64_t>(count) != 0)
    throw Fault(FaultKind::misaligned, std::to_string(count) + " bytes at address " + std::to_string(address));
  if (space != Space::shared && space != Space::local) return memory_.find(address, count);
  address &= 0xffffffff;  // 32-bit address registers may be sign-extended
  CheckedBytes* bytes = space == Space::shared ? shared_.get() : threads_[static_cast<std::size_t>(index)].local.get();
  if (bytes == nullptr || address + static_cast<std::uint64_t>(count) > bytes->size())
    throw Fault(FaultKind::bounds,
                std::to_string(count) + " bytes at " + (space == Space::shared ? "shared" : "local") + " memory + " +
                    std::to_string(address) + ", which has " + std::to_string(bytes == nullptr ? 0 : bytes->size()));
  return {bytes, static_cast<std::size_t>(address)};
}

std::uint8_t* Machine::reach(Space space, std::uint64_t address, int count, Access access, int index) {
  if (space == Space::param) {
    if (access == Access::write || access == Access::atomic)
      throw Fault(FaultKind::bounds, "a write to the parameters");
    if (address + static_cast<std::uint64_t>(count) > parameters_.size())
      throw Fault(FaultKind::bounds, "parameter byte " + std::to_string(address));
    return parameters_.data() + address;
  }
  const auto [bytes, offset] = resolve(space, address, count, index);
  bytes->touch(offset, count, access, accessor(index));
  return bytes->data() + offset;
}

void Machine::step_memory(int index, const Instruction& i) {
  Thread& thread = threads_[static_cast<std::size_t>(index)];
  const int each = i.type.bytes();
  switch (i.op) {
    case Op::fence:
      return fence(index);
    case Op::cvta:
    case Op::cvta_to: {
      const std::uint64_t window = i.space == Space::shared  ? shared_window
                                   : i.space == Space::local ? local_window
                                                             : 0;
      if (i.space == Space::param) throw Fault(FaultKind::unsupported, "the address of a parameter");
      const std::uint64_t from = value(i.operands.at(1), index);
      if (i.op == Op::cvta) return set(i.operands[0], index, from + window);
      if (window != 0 && from - window >= window_bytes)
        throw Fault(FaultKind::bounds, "the generic address is not of the space that it is converted to");
      return set(i.operands[0], index, from - window);
    }
    case Op::ld: {
      const std::uint64_t at = address(i.operands.at(1), index);
      const std::uint8_t* data = reach(i.space, at, each * i.vector, i.strong ? Access::strong : Access::read, index);
      if (i.strong)
        if (const auto found = published_.find(at); found != published_.end()) learn(thread.heard, found->second);
      const Operand& to = i.operands[0];
      for (int k = 0; k < i.vector; ++k) {
        std::uint64_t bits = 0;
        std::memcpy(&bits, data + k * each, static_cast<std::size_t>(each));
        set(i.vector == 1 ? to : to.list.at(static_cast<std::size_t>(k)), index, narrowed(bits, i.type));
      }
      return;
    }
    case Op::st: {
      const std::uint64_t at = address(i.operands.at(0), index);
      std::uint8_t* data = reach(i.space, at, each * i.vector, Access::write, index);
      const Operand& from = i.operands.at(1);
      for (int k = 0; k < i.vector; ++k) {
        const std::uint64_t bits = value(i.vector == 1 ? from : from.list.at(static_cast<std::size_t>(k)), index);
        std::memcpy(data + k * each, &bits, static_cast<std::size_t>(each));
      }
      return;
    }
    case Op::atom:
    case Op::red: {
      if (i.type.is_float()) throw Fault(FaultKind::unsupported, "a floating-point atomic: its sum has no fixed order");
      const std::size_t first = i.op == Op::atom ? 1 : 0;
      const std::uint64_t at = address(i.operands.at(first), index);
      std::uint8_t* data = reach(i.space, at, each, Access::atomic, index);
      std::uint64_t old = 0;
      std::memcpy(&old, data, static_cast<std::size_t>(each));
      const std::uint64_t b = value(i.operands.at(first + 1), index);
      const std::uint64_t c = i.operands.size() > first + 2 ? value(i.operands[first + 2], index) : 0;
      const std::uint64_t next = updated(i.atomic, i.type, old, b, c);
      std::memcpy(data, &next, static_cast<std::size_t>(each));
      if (i.op == Op::atom) set(i.operands[0], index, narrowed(old, i.type));
      if (i.space != Space::shared) synchronise_atomic(index, at);
      return;
    }
    case Op::cp_async: {
      Copy copy{.to = address(i.operands.at(0), index),
                .from = address(i.operands.at(1), index),
                .bytes = static_cast<int>(value(i.operands.at(2), index)),
                .source_bytes = 0,
                .group = thread.groups};
      copy.source_bytes = i.operands.size() > 3 ? static_cast<int>(value(i.operands[3], index)) : copy.bytes;
      if ((copy.bytes != 4 && copy.bytes != 8 && copy.bytes != 16) || copy.source_bytes > copy.bytes)
        throw Fault(FaultKind::bounds,
                    "cp.async of " + std::to_string(copy.bytes) + " bytes from " + std::to_string(copy.source_bytes));
      // The source is looked at now and copied as late as allowed.
      if (copy.source_bytes > 0) reach(Space::global, copy.from, copy.source_bytes, Access::read, index);
      const auto [bytes, offset] = resolve(Space::shared, copy.to, copy.bytes, index);
      bytes->announce(offset, copy.bytes, accessor(index));
      thread.copies.push_back(copy);
      return;
    }
    case Op::cp_async_commit:
      ++thread.groups;
      return;
    case Op::cp_async_wait:
      return copy_async_wait(index, i);
    default:
      throw Fault(FaultKind::unsupported, i.text);
  }
}

/// An atomic tells whoever meets this address later what this block did before its last fence, and all that it knows;
/// and it hears what others told.
void Machine::synchronise_atomic(int index, std::uint64_t address) {
  const Thread& thread = threads_[static_cast<std::size_t>(index)];
  Knowledge& published = published_[address];
  const Knowledge before = published;
  if (thread.fenced >= block_start_) {
    learn(published, {{block_start_, thread.fenced}});
    learn(published, knowledge_);
  }
  learn(knowledge_, before);
}

void Machine::fence(int index) {
  Thread& thread = threads_[static_cast<std::size_t>(index)];
  thread.fenced = interval_;
  learn(knowledge_, thread.heard);
  thread.heard.clear();
}

/// Groups but the youngest `n` are complete: their bytes arrive now, as if written here.
void Machine::copy_async_wait(int index, const Instruction& i) {
  Thread& thread = threads_[static_cast<std::size_t>(index)];
  const int complete =
      i.wait_all ? thread.groups + 1 : thread.groups - static_cast<int>(value(i.operands.at(0), index));
  std::vector<Copy> still;
  for (const Copy& copy : thread.copies) {
    if (copy.group >= complete) {
      still.push_back(copy);
      continue;
    }
    const auto [bytes, offset] = resolve(Space::shared, copy.to, copy.bytes, index);
    bytes->arrive(offset, copy.bytes);
    bytes->touch(offset, copy.bytes, Access::write, accessor(index));
    std::memset(bytes->data() + offset, 0, static_cast<std::size_t>(copy.bytes));
    if (copy.source_bytes > 0)
      std::memcpy(bytes->data() + offset, reach(Space::global, copy.from, copy.source_bytes, Access::read, index),
                  static_cast<std::size_t>(copy.source_bytes));
  }
  thread.copies = std::move(still);
}

}  // namespace cumeta::ptx
