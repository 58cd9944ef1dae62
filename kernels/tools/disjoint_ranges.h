// SPDX-License-Identifier: Apache-2.0
// Ranges of [0, size) that never meet while they are held: the first gap that is wide enough.
#pragma once
#include <map>
#include <mutex>

namespace cumeta {

class DisjointRanges {
 public:
  explicit DisjointRanges(int size) : size_(size) {}
  /// The begin of `count` numbers that nobody holds; -1 where no gap is as wide.
  int take(int count) {
    const std::lock_guard lock(mutex_);
    int begin = 0;
    for (const auto& [first, held] : held_) {
      if (first - begin >= count) break;
      begin = first + held;
    }
    if (count > size_ - begin) return -1;
    held_[begin] = count;
    return begin;
  }
  void give_back(int begin) {
    const std::lock_guard lock(mutex_);
    held_.erase(begin);
  }

 private:
  int size_;
  std::mutex mutex_;
  std::map<int, int> held_;  // begin -> count
};

}  // namespace cumeta
