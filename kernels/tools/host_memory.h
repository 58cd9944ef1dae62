// SPDX-License-Identifier: Apache-2.0
// Memory of the host devices: aligned blocks filled with NaN, and copies between spans and arrays that convert numbers.
#pragma once
#include <cassert>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "cumeta/error.h"
#include "kernels/array.h"

namespace cumeta {

/// `bytes` on a boundary of 64. Every number in it is NaN, so that one read before it is written cannot go unseen.
inline std::shared_ptr<std::byte> allocate_host(std::size_t bytes) {
  constexpr std::size_t kAlignment = 64;
  const std::size_t whole = bytes / kAlignment * kAlignment + (bytes % kAlignment || !bytes ? kAlignment : 0);
  void* memory = whole < bytes ? nullptr : std::aligned_alloc(kAlignment, whole);
  if (!memory)
    throw OutOfMemory("host memory: " + std::to_string(bytes) +
                      " bytes cannot be allocated; take fewer tasks at a time or set a memory limit");
  std::memset(memory, 0xff, whole);
  return {static_cast<std::byte*>(memory), [](std::byte* p) { std::free(p); }};
}

/// `from` holds the rows of `to` one after another; one row, when `to` is shared.
template <class From>
void copy_to_rows(std::span<const From> from, Array to) {
  const int rows = to.stride == 0 ? 1 : to.tasks;
  assert(static_cast<std::int64_t>(from.size()) == rows * to.size);
  for (int task = 0; task < rows; ++task)
    for (std::int64_t i = 0; i < to.size; ++i) {
      const From number = from[static_cast<std::size_t>(task * to.size + i)];
      if (to.number == Number::float64)
        to.row<double>(task)[i] = static_cast<double>(number);
      else
        to.row<float>(task)[i] = static_cast<float>(number);
    }
}

/// Rows of float32, converted to the numbers of `to`.
inline void copy_rows(Array from, Array to) {
  assert(from.number == Number::float32 && from.tasks == to.tasks && from.size == to.size);
  for (int task = 0; task < to.tasks; ++task)
    copy_to_rows(std::span<const float>(from.row<float>(task), static_cast<std::size_t>(from.size)), to.rows(task, 1));
}

inline void copy_from_rows(Array from, std::span<double> to) {
  const int rows = from.stride == 0 ? 1 : from.tasks;
  assert(static_cast<std::int64_t>(to.size()) == rows * from.size);
  for (int task = 0; task < rows; ++task)
    for (std::int64_t i = 0; i < from.size; ++i)
      to[static_cast<std::size_t>(task * from.size + i)] =
          from.number == Number::float64 ? from.row<double>(task)[i] : static_cast<double>(from.row<float>(task)[i]);
}

}  // namespace cumeta
