// SPDX-License-Identifier: Apache-2.0
// Instructions that turn up to four values into one: no memory, no other lane.
#pragma once
#include <cstdint>

#include "tests/ptx/ptx_module.h"

namespace cumeta::ptx {

/// The low bits of `value` that `type` has; signed: extended.
std::uint64_t narrowed(std::uint64_t value, Type type);
float float_from(std::uint64_t bits);
std::uint64_t bits_of(float value);
/// setp's main comparison.
bool compared(const Instruction& instruction, std::uint64_t a, std::uint64_t b);
/// Throws Fault{unsupported} for a type that the opcode does not know.
std::uint64_t evaluate(const Instruction& instruction, std::uint64_t a, std::uint64_t b, std::uint64_t c,
                       std::uint64_t d);
std::uint64_t updated(Atomic atomic, Type type, std::uint64_t old, std::uint64_t b, std::uint64_t c);

}  // namespace cumeta::ptx
