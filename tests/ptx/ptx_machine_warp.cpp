// SPDX-License-Identifier: Apache-2.0
// What the lanes of a warp do together: shuffles, votes, warp barriers and the matrix product of tensor cores.
#include <algorithm>
#include <bit>

#include "tests/ptx/ptx_arithmetic.h"
#include "tests/ptx/ptx_machine.h"

namespace cumeta::ptx {

std::uint32_t Machine::full_mask(int warp) const {
  const int lanes = std::min(32, launch_.block.size() - warp * 32);
  return lanes == 32 ? ~0u : (1u << lanes) - 1;
}

/// Lets one group of lanes that have all arrived go on. False: nobody could.
bool Machine::run_warp(int warp) {
  for (int lane = 0; lane < 32 && warp * 32 + lane < launch_.block.size(); ++lane) {
    if (threads_[static_cast<std::size_t>(warp * 32 + lane)].state != State::at_warp) continue;
    try {
      if (meet(warp, lane)) return true;
    } catch (const Fault& fault) { rethrow(fault, warp * 32 + lane); }
  }
  return false;
}

bool Machine::meet(int warp, int lane) {
  const int index = warp * 32 + lane;
  const int pc = threads_[static_cast<std::size_t>(index)].pc;
  const Instruction& i = kernel_->code[static_cast<std::size_t>(pc)];
  const std::uint32_t full = full_mask(warp);
  const std::size_t at = i.op == Op::shfl ? 4 : i.op == Op::vote ? 2 : 0;
  const std::uint32_t mask =
      (i.op == Op::mma ? ~0u : static_cast<std::uint32_t>(value(i.operands.at(at), index))) & full;
  if ((mask >> lane & 1) == 0) throw Fault(FaultKind::divergence, "is not in its own member mask");
  for (int other = 0; other < 32; ++other) {
    if ((mask >> other & 1) == 0) continue;
    const Thread& thread = threads_[static_cast<std::size_t>(warp * 32 + other)];
    if (thread.state == State::done) throw Fault(FaultKind::divergence, "waits for a lane that has ended");
    if (thread.state != State::at_warp || thread.pc != pc) return false;
  }
  if (i.op == Op::shfl) shuffle(i, warp, mask);
  if (i.op == Op::vote) vote(i, warp, mask);
  if (i.op == Op::mma) multiply_matrices(i, warp);
  // Only a warp barrier orders memory; a shuffle exchanges registers and promises no more.
  if (i.op == Op::warp_sync) join_clocks(warp, mask);
  for (int other = 0; other < 32; ++other) {
    if ((mask >> other & 1) == 0) continue;
    threads_[static_cast<std::size_t>(warp * 32 + other)].state = State::running;
    ++threads_[static_cast<std::size_t>(warp * 32 + other)].pc;
  }
  return true;
}

void Machine::join_clocks(int warp, std::uint32_t mask) {
  std::array<int, 32> joined{};
  for (std::size_t lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    std::array<int, 32>& clock = clocks_[static_cast<std::size_t>(warp * 32) + lane];
    latest_clock_ = std::max(latest_clock_, ++clock[lane]);
    for (std::size_t k = 0; k < 32; ++k) joined[k] = std::max(joined[k], clock[k]);
  }
  for (std::size_t lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) != 0) clocks_[static_cast<std::size_t>(warp * 32) + lane] = joined;
}

void Machine::shuffle(const Instruction& i, int warp, std::uint32_t mask) {
  std::array<std::uint64_t, 32> source{};
  const auto in_mask = [&](int lane) { return (mask >> lane & 1) != 0; };
  for (int lane = 0; lane < 32; ++lane)
    if (in_mask(lane)) source[static_cast<std::size_t>(lane)] = value(i.operands[1], warp * 32 + lane);
  for (int lane = 0; lane < 32; ++lane) {
    if (!in_mask(lane)) continue;
    const int index = warp * 32 + lane;
    const int by = static_cast<int>(value(i.operands[2], index) & 31);
    const int bounds = static_cast<int>(value(i.operands[3], index));
    const int segment = bounds >> 8 & 31, clamp = bounds & 31;
    const int last = (lane & segment) | (clamp & ~segment), first = lane & segment;
    int from = 0;
    bool inside = false;
    switch (i.shuffle) {
      case Shuffle::up:
        from = lane - by, inside = from >= last;
        break;
      case Shuffle::down:
        from = lane + by, inside = from <= last;
        break;
      case Shuffle::bfly:
        from = lane ^ by, inside = from <= last;
        break;
      case Shuffle::idx:
        from = first | (by & ~segment), inside = from <= last;
        break;
    }
    if (!inside) from = lane;
    if (!in_mask(from))
      throw Fault(FaultKind::divergence, "a shuffle reads lane " + std::to_string(from) + ", which takes no part");
    set(i.operands[0], index, source[static_cast<std::size_t>(from)]);
    if (i.operands[0].reg2 >= 0)
      threads_[static_cast<std::size_t>(index)].registers[static_cast<std::size_t>(i.operands[0].reg2)] =
          inside ? 1 : 0;
  }
}

void Machine::vote(const Instruction& i, int warp, std::uint32_t mask) {
  std::uint32_t ballot = 0;
  for (int lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) != 0 && (value(i.operands[1], warp * 32 + lane) & 1) != 0) ballot |= 1u << lane;
  const std::uint64_t results[] = {ballot == mask, ballot != 0, ballot == 0 || ballot == mask, ballot};
  for (int lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) != 0) set(i.operands[0], warp * 32 + lane, results[static_cast<int>(i.vote)]);
}

/// mma.m16n8k8, TF32 in, float32 out: D[16][8] = A[16][8] B[8][8] + C; lane l holds rows l / 4 and columns l % 4.
void Machine::multiply_matrices(const Instruction& i, int warp) {
  if (full_mask(warp) != ~0u) throw Fault(FaultKind::divergence, "mma by less than a full warp");
  const bool known = i.type == Type{'f', 32} && i.source == Type{'f', 32} &&
                     i.text.find("m16n8k8") != std::string::npos && i.text.find("tf32.tf32") != std::string::npos &&
                     i.text.find("row.col") != std::string::npos;
  if (!known) throw Fault(FaultKind::unsupported, i.text);
  float a[16][8], b[8][8], c[16][8];
  const auto element = [&](std::size_t operand, int k, int lane) {
    return value(i.operands.at(operand).list.at(static_cast<std::size_t>(k)), warp * 32 + lane);
  };
  const auto tf32 = [](std::uint64_t bits) { return float_from(bits & ~std::uint64_t{0x1fff}); };
  for (int lane = 0; lane < 32; ++lane) {
    const int row = lane / 4, column = lane % 4;
    for (int k = 0; k < 4; ++k) a[row + 8 * (k & 1)][column + 4 * (k >> 1)] = tf32(element(1, k, lane));
    for (int k = 0; k < 2; ++k) b[column + 4 * k][row] = tf32(element(2, k, lane));
    for (int k = 0; k < 4; ++k) c[row + 8 * (k >> 1)][2 * column + (k & 1)] = float_from(element(3, k, lane));
  }
  for (int lane = 0; lane < 32; ++lane)
    for (int k = 0; k < 4; ++k) {
      const int row = lane / 4 + 8 * (k >> 1), column = 2 * (lane % 4) + (k & 1);
      double sum = static_cast<double>(c[row][column]);
      for (int inner = 0; inner < 8; ++inner)
        sum += static_cast<double>(a[row][inner]) * static_cast<double>(b[inner][column]);
      set(i.operands[0].list.at(static_cast<std::size_t>(k)), warp * 32 + lane, bits_of(static_cast<float>(sum)));
    }
}

}  // namespace cumeta::ptx
