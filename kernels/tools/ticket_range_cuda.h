// SPDX-License-Identifier: Apache-2.0
// Who counts where: phased kernels (kernels/tools/tickets_cuda.cuh) of one lane run in their order and share a range of
// counters; those of two lanes never meet in one.
#pragma once
#include <string>

#include "kernels/tools/cuda_check.h"
#include "kernels/tools/disjoint_ranges.h"

namespace cumeta {

constexpr int kTicketWords = 1 << 20;

/// A range of the counters, nobody else's while it lives. Throws OutOfMemory.
class TicketRange {
 public:
  explicit TicketRange(int words) : words_(words), first_(all().take(words)) {
    if (first_ < 0)
      raise(ErrorKind::out_of_memory, "cuda: fused convolution blocks of all learners need more than " +
                                          std::to_string(kTicketWords) +
                                          " counters, four for each task of a chunk: set a smaller plan.chunk");
  }
  ~TicketRange() { all().give_back(first_); }
  TicketRange(const TicketRange&) = delete;
  TicketRange& operator=(const TicketRange&) = delete;
  int first() const { return first_; }
  int words() const { return words_; }

 private:
  /// Never destroyed: a backend that is static gives its lanes' ranges back when the plugin's own statics are gone.
  static DisjointRanges& all() {
    static auto* const ranges = new DisjointRanges(kTicketWords);
    return *ranges;
  }
  int words_, first_;
};

}  // namespace cumeta
