// SPDX-License-Identifier: Apache-2.0
// A row of numbers per task, in a backend's memory. A stride of 0 shares one row among all tasks; no data means "not
// there".
#pragma once
#include <cassert>
#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define CUMETA_HD __host__ __device__
#else
#define CUMETA_HD
#endif

namespace cumeta {

/// The number type of a backend's arrays: the reference computes in double, all other devices in float.
enum class Number : std::uint8_t { float32, float64 };
constexpr int bytes_of(Number n) { return n == Number::float32 ? 4 : 8; }

/// Four numbers at once may be read from any multiple of four of every row; so of rows that are not there.
inline bool by_fours(const void* data, std::int64_t stride) {
  return !data || (reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && stride % 4 == 0);
}

struct Array {
  std::byte* data = nullptr;
  int tasks = 0;
  std::int64_t size = 0;    // numbers per task
  std::int64_t stride = 0;  // numbers from one task's row to the next; 0: one row for all
  Number number = Number::float32;

  CUMETA_HD explicit operator bool() const { return data != nullptr; }
  template <class S>
  CUMETA_HD S* row(int task) const {
    return reinterpret_cast<S*>(data) + static_cast<std::int64_t>(task) * stride;
  }
  bool by_fours() const { return cumeta::by_fours(data, tasks > 1 ? stride : 0); }
  /// Columns [offset, offset + count) of every row.
  Array slice(std::int64_t offset, std::int64_t count) const {
    assert(!data || offset + count <= size);
    Array part = *this;
    part.data = data ? data + offset * bytes_of(number) : nullptr;
    part.size = count;
    return part;
  }
  /// Rows [first, first + count).
  Array rows(int first, int count) const {
    Array part = *this;
    part.data = data ? data + first * stride * bytes_of(number) : nullptr;
    part.tasks = count;
    return part;
  }
  /// One row seen by `count` tasks.
  Array shared(int count) const {
    Array part = *this;
    part.tasks = count, part.stride = 0;
    return part;
  }
};

}  // namespace cumeta
