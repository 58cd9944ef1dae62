// SPDX-License-Identifier: Apache-2.0
// Grids, blocks and threads: who runs next, what a barrier waits for, what arithmetic does to registers.
#include "tests/ptx/ptx_machine.h"

#include <algorithm>
#include <numeric>

#include "tests/ptx/ptx_arithmetic.h"

namespace cumeta::ptx {
namespace {

constexpr int most_steps = 20'000'000;  ///< of a thread between two barriers

}  // namespace

Machine::Machine(Module module, unsigned seed) : module_(std::move(module)), random_(seed) {
  for (auto& [name, variable] : module_.variables) {
    memory_.place(variable.address, name, variable.data.size());
    const auto [bytes, offset] = memory_.find(variable.address, static_cast<int>(variable.data.size()));
    std::copy(variable.data.begin(), variable.data.end(), bytes->data() + offset);
  }
}

std::pair<CheckedBytes*, std::size_t> Machine::locate(const void* address, std::size_t count) {
  return memory_.find(reinterpret_cast<std::uint64_t>(address), static_cast<int>(count));
}

void Machine::run(const Kernel& kernel, const Launch& launch, const std::vector<Argument>& arguments) {
  kernel_ = &kernel;
  launch_ = launch;
  const auto refuse = [&](const std::string& what) { throw Fault(FaultKind::launch, kernel.name + ": " + what); };
  if (launch.block.size() < 1 || launch.block.size() > kernel.most_threads)
    refuse(std::to_string(launch.block.size()) + " threads, its launch bounds say " +
           std::to_string(kernel.most_threads));
  if (arguments.size() != kernel.parameters.size())
    refuse(std::to_string(arguments.size()) + " arguments for " + std::to_string(kernel.parameters.size()) +
           " parameters");
  parameters_.assign(static_cast<std::size_t>(kernel.parameter_bytes), 0);
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const Parameter& parameter = kernel.parameters[i];
    if (arguments[i].size() != static_cast<std::size_t>(parameter.size))
      refuse("argument " + std::to_string(i) + " has " + std::to_string(arguments[i].size()) + " bytes, not " +
             std::to_string(parameter.size));
    std::copy(arguments[i].begin(), arguments[i].end(), parameters_.begin() + parameter.offset);
  }
  launch_start_ = ++interval_;
  published_.clear();
  std::vector<int> order(static_cast<std::size_t>(launch.grid.size()));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random_);
  for (const int block : order) {
    block_at_ = {block % launch.grid.x, block / launch.grid.x % launch.grid.y, block / (launch.grid.x * launch.grid.y)};
    run_block();
  }
}

void Machine::run_block() {
  block_start_ = ++interval_;
  const int count = launch_.block.size();
  shared_ = std::make_unique<CheckedBytes>("shared memory", kernel_->static_shared + launch_.dynamic_shared, false);
  threads_.clear();
  threads_.resize(static_cast<std::size_t>(count));
  clocks_.assign(static_cast<std::size_t>(count), {});
  latest_clock_ = 0;
  knowledge_.clear();
  for (int index = 0; index < count; ++index) {
    Thread& thread = threads_[static_cast<std::size_t>(index)];
    // Registers begin as nonsense, the same on every run.
    thread.registers.assign(static_cast<std::size_t>(kernel_->registers), 0x7fc0dead7fc0deadull);
    if (kernel_->local_bytes > 0)
      thread.local = std::make_unique<CheckedBytes>("local memory", kernel_->local_bytes, false);
    thread.at = {index % launch_.block.x, index / launch_.block.x % launch_.block.y,
                 index / (launch_.block.x * launch_.block.y)};
  }
  const int warps = (count + 31) / 32;
  std::vector<int> warp_order(static_cast<std::size_t>(warps)), lane_order(32);
  std::iota(warp_order.begin(), warp_order.end(), 0);
  std::iota(lane_order.begin(), lane_order.end(), 0);
  for (;;) {
    std::shuffle(warp_order.begin(), warp_order.end(), random_);
    for (const int warp : warp_order) {
      std::shuffle(lane_order.begin(), lane_order.end(), random_);
      bool progress = true;
      while (progress) {
        progress = false;
        for (const int lane : lane_order) {
          const int index = warp * 32 + lane;
          if (index >= count || threads_[static_cast<std::size_t>(index)].state != State::running) continue;
          run_thread(index);
          progress = true;
        }
        if (run_warp(warp)) progress = true;
      }
    }
    if (std::all_of(threads_.begin(), threads_.end(), [](const Thread& t) { return t.state == State::done; })) return;
    release_barrier();
  }
}

/// Everybody who can has run: all must stand at one and the same barrier.
void Machine::release_barrier() {
  int waiting = -1;
  for (std::size_t i = 0; i < threads_.size(); ++i)
    if (threads_[i].state == State::at_barrier) waiting = static_cast<int>(i);
  for (std::size_t i = 0; i < threads_.size(); ++i) {
    const Thread& thread = threads_[i];
    const auto blame = [&](FaultKind kind, const std::string& what) {
      try {
        throw Fault(kind, what);
      } catch (const Fault& fault) { rethrow(fault, static_cast<int>(i)); }
    };
    if (thread.state == State::at_warp) blame(FaultKind::deadlock, "waits for lanes of its warp that never come");
    if (waiting < 0) continue;
    if (thread.state == State::done) blame(FaultKind::divergence, "has ended while others wait at a barrier");
    if (thread.pc != threads_[static_cast<std::size_t>(waiting)].pc)
      blame(FaultKind::divergence, "stands at another barrier than thread " + std::to_string(waiting));
  }
  ++interval_;
  for (Thread& thread : threads_) {
    thread.state = State::running;
    ++thread.pc;
  }
}

void Machine::run_thread(int index) {
  Thread& thread = threads_[static_cast<std::size_t>(index)];
  try {
    for (int steps = 0;; ++steps) {
      if (steps == most_steps)
        throw Fault(FaultKind::deadlock, "runs on and on; does it wait for a block that has not started?");
      if (thread.pc >= static_cast<int>(kernel_->code.size())) {
        thread.state = State::done;
        return;
      }
      const Instruction& i = kernel_->code[static_cast<std::size_t>(thread.pc)];
      ++instructions_;
      if (i.guard >= 0 && ((thread.registers[static_cast<std::size_t>(i.guard)] & 1) != 0) == i.guard_negated) {
        ++thread.pc;
        continue;
      }
      switch (i.op) {
        case Op::bra:
          thread.pc = i.target;
          continue;
        case Op::ret:
          if (!thread.copies.empty()) throw Fault(FaultKind::race, "ends while its cp.async is on its way");
          thread.state = State::done;
          return;
        case Op::trap:
          throw Fault(FaultKind::launch, "trap");
        case Op::bar_sync:
          if (i.operands.size() != 1 || value(i.operands[0], index) != 0)
            throw Fault(FaultKind::unsupported, "a barrier other than barrier 0 of the whole block");
          thread.state = State::at_barrier;
          return;
        case Op::shfl:
        case Op::vote:
        case Op::warp_sync:
        case Op::mma:
          thread.state = State::at_warp;
          return;
        case Op::activemask:
          throw Fault(FaultKind::unsupported, "activemask: what it gives depends on the hardware");
        case Op::ld:
        case Op::st:
        case Op::atom:
        case Op::red:
        case Op::cp_async:
        case Op::cp_async_commit:
        case Op::cp_async_wait:
        case Op::cvta:
        case Op::cvta_to:
        case Op::fence:
          step_memory(index, i);
          break;
        default:
          step_arithmetic(index, i);
      }
      ++thread.pc;
    }
  } catch (const Fault& fault) { rethrow(fault, index); }
}

void Machine::rethrow(const Fault& fault, int index) const {
  const Thread& thread = threads_[static_cast<std::size_t>(index)];
  const auto pc = static_cast<std::size_t>(thread.pc);
  const std::string where = pc < kernel_->code.size()
                                ? "line " + std::to_string(kernel_->code[pc].line) + " '" + kernel_->code[pc].text + "'"
                                : "its end";
  throw Fault(fault.kind, kernel_->name + ", block " + std::to_string(block_at_.x) + "," + std::to_string(block_at_.y) +
                              "," + std::to_string(block_at_.z) + ", thread " + std::to_string(index) + ", " + where +
                              ": " + fault.what());
}

void Machine::step_arithmetic(int index, const Instruction& i) {
  if (i.op == Op::mov) return move(index, i);
  std::uint64_t v[4] = {};
  for (std::size_t k = 1; k < i.operands.size() && k < 5; ++k) v[k - 1] = value(i.operands[k], index);
  if (i.op != Op::setp) return set(i.operands.at(0), index, evaluate(i, v[0], v[1], v[2], v[3]));
  const bool first = compared(i, v[0], v[1]);
  const bool other = i.operands.size() > 3 && (v[2] & 1) != 0;
  const auto combined = [&](bool p) {
    return i.combine == '&' ? p && other : i.combine == '|' ? p || other : i.combine == '^' ? p != other : p;
  };
  set(i.operands[0], index, combined(first) ? 1 : 0);
  if (i.operands[0].reg2 >= 0)
    threads_[static_cast<std::size_t>(index)].registers[static_cast<std::size_t>(i.operands[0].reg2)] =
        combined(!first) ? 1 : 0;
}

/// mov also packs {low, high} into one register and unpacks it.
void Machine::move(int index, const Instruction& i) {
  const Operand &to = i.operands.at(0), &from = i.operands.at(1);
  if (from.kind == Operand::Kind::list) {
    const int bits = i.type.bits / static_cast<int>(from.list.size());
    std::uint64_t packed = 0;
    for (std::size_t k = 0; k < from.list.size(); ++k)
      packed |= narrowed(value(from.list[k], index), {'u', bits}) << (bits * static_cast<int>(k));
    return set(to, index, packed);
  }
  const std::uint64_t bits = value(from, index);
  if (to.kind != Operand::Kind::list) return set(to, index, evaluate(i, bits, 0, 0, 0));
  const int each = i.type.bits / static_cast<int>(to.list.size());
  for (std::size_t k = 0; k < to.list.size(); ++k)
    set(to.list[k], index, narrowed(bits >> (each * static_cast<int>(k)), {'u', each}));
}

std::uint64_t Machine::value(const Operand& operand, int index) const {
  const Thread& thread = threads_[static_cast<std::size_t>(index)];
  switch (operand.kind) {
    case Operand::Kind::reg: {
      const std::uint64_t bits = thread.registers[static_cast<std::size_t>(operand.reg)];
      return operand.negated ? bits ^ 1 : bits;
    }
    case Operand::Kind::immediate:
      return operand.value;
    case Operand::Kind::dynamic_shared:
      return kernel_->static_shared;
    case Operand::Kind::special:
      return special(operand.value, index);
    default:
      throw Fault(FaultKind::unsupported, "an operand that has no value");
  }
}

std::uint64_t Machine::special(std::uint64_t number, int index) const {
  const Dim at = threads_[static_cast<std::size_t>(index)].at;
  const int values[] = {at.x,        at.y,        at.z,        launch_.block.x, launch_.block.y, launch_.block.z,
                        block_at_.x, block_at_.y, block_at_.z, launch_.grid.x,  launch_.grid.y,  launch_.grid.z,
                        index % 32,  index / 32};
  if (number < 14) return static_cast<std::uint64_t>(values[number]);
  if (number == 14) return (std::uint64_t{1} << (index % 32)) - 1;
  if (number == 15) return std::uint64_t{1} << (index % 32);
  return 32;
}

void Machine::set(const Operand& operand, int index, std::uint64_t bits) {
  if (operand.kind == Operand::Kind::none) return;  // "_"
  if (operand.kind != Operand::Kind::reg) throw Fault(FaultKind::unsupported, "a result that is no register");
  threads_[static_cast<std::size_t>(index)].registers[static_cast<std::size_t>(operand.reg)] = bits;
}

Accessor Machine::accessor(int index) const {
  return {.thread = index,
          .seen = &clocks_[static_cast<std::size_t>(index)],
          .launch = launch_start_,
          .block = block_start_,
          .interval = interval_,
          .knowledge = &knowledge_,
          .latest = latest_clock_};
}

}  // namespace cumeta::ptx
