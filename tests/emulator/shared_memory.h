// SPDX-License-Identifier: Apache-2.0
// The shared memory of the running block: filled with NaN at its start, with zones between the arrays that nobody may
// touch.
#pragma once
#include <cstddef>

#include "tests/emulator/cuda_threads.h"

namespace emulator {

class SharedMemory {
 public:
  /// `slot`: which of several places in memory, for blocks that are to be told apart.
  void start_block(unsigned slot, size_t dynamic_bytes);
  /// The array of this declaration; null when there is no room left.
  void* find_or_add(const SharedSite* site, size_t bytes);
  void* dynamic() const { return dynamic_; }
  size_t static_bytes() const { return static_bytes_; }
  /// The number of the first array beside which something was written (-1: none), and its size.
  int damaged(size_t* bytes) const;

 private:
  struct Array {
    const SharedSite* site;
    size_t offset, bytes;
  };
  void* add(const SharedSite* site, size_t bytes);

  static constexpr int most_arrays = 128;
  unsigned char *arenas_ = nullptr, *arena_ = nullptr;
  Array arrays_[most_arrays];
  int count_ = 0;
  size_t used_ = 0, static_bytes_ = 0;
  void* dynamic_ = nullptr;
};

/// memset(pointer, 0xff, bytes) that no sanitizer takes for an access by the running thread.
void fill_with_nan(void* pointer, size_t bytes);
bool is_all_nan(const void* pointer, size_t bytes);

}  // namespace emulator
