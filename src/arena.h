// SPDX-License-Identifier: Apache-2.0
// One block of memory, dealt out in order. A dry arena deals out nothing but counts: the plan is the layout run dry,
// so the arena is the plan's figure to the byte.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cumeta/error.h"
#include "cumeta/plan.h"
#include "kernels/array.h"

namespace cumeta {

class Arena {
 public:
  static constexpr std::int64_t alignment = 256;   // bytes; of every array
  static constexpr std::int64_t row_numbers = 16;  // rows of tasks start at multiples of these
  static constexpr std::int64_t most_bytes = std::int64_t{1} << 50;

  /// A dry arena.
  explicit Arena(Number number) : number_(number) {}
  Arena(Number number, std::byte* base) : base_(base), number_(number) {}

  /// [tasks][size] numbers; none (an empty Array) when size is 0.
  Array take(const std::string& name, int tasks, std::int64_t size) { return take(name, tasks, size, number_); }
  Array take(const std::string& name, int tasks, std::int64_t size, Number number) {
    if (size == 0 || tasks == 0) return {};
    const std::int64_t stride = tasks == 1 ? size : (size + row_numbers - 1) / row_numbers * row_numbers;
    if (stride > (most_bytes - used_) / tasks / bytes_of(number))
      throw OutOfMemory("plan: " + name + " of " + std::to_string(tasks) + " tasks with " + std::to_string(size) +
                        " numbers each are more than any machine holds; lower tasks, examples, steps or the model");
    const std::int64_t bytes =
        (std::int64_t{tasks} * stride * bytes_of(number) + alignment - 1) / alignment * alignment;
    // An address in a dry arena is its place, never followed.
    std::byte* data =
        base_ ? base_ + used_ : reinterpret_cast<std::byte*>(alignment + used_);  // NOLINT(performance-no-int-to-ptr)
    Array a{data, tasks, size, stride, number};
    used_ += bytes, top_ = std::max(top_, used_);
    note(name, bytes);
    return a;
  }
  /// What is taken after rewind(mark()) lies over what was taken in between.
  std::int64_t mark() const { return used_; }
  void rewind(std::int64_t mark) { used_ = mark; }
  /// Continue behind everything that was ever taken.
  void to_top() { used_ = top_; }

  std::int64_t bytes() const { return top_; }
  const std::vector<PlannedArray>& arrays() const { return arrays_; }

 private:
  void note(const std::string& name, std::int64_t bytes) {
    for (PlannedArray& a : arrays_)
      if (a.name == name) {
        a.bytes += bytes;
        return;
      }
    arrays_.push_back({name, bytes});
  }

  std::byte* base_ = nullptr;
  Number number_;
  std::int64_t used_ = 0, top_ = 0;
  std::vector<PlannedArray> arrays_;
};

}  // namespace cumeta
