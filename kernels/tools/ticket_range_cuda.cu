// SPDX-License-Identifier: Apache-2.0
// The first gap that is wide enough.
#include <map>
#include <mutex>
#include <string>

#include "kernels/tools/cuda_check.h"
#include "kernels/tools/ticket_range_cuda.h"

namespace cumeta {
namespace {

std::mutex mutex;
std::map<int, int>& taken() {  // first -> words
  static std::map<int, int> ranges;
  return ranges;
}

}  // namespace

TicketRange::TicketRange(int words) : words_(words) {
  const std::lock_guard lock(mutex);
  for (const auto& [first, size] : taken()) {
    if (first - first_ >= words) break;
    first_ = first + size;
  }
  if (words > kTicketWords - first_)
    raise(ErrorKind::out_of_memory, "cuda: fused convolution blocks of all learners need more than " +
                                        std::to_string(kTicketWords) +
                                        " counters, four for each task of a chunk: set a smaller plan.chunk");
  taken()[first_] = words;
}

TicketRange::~TicketRange() {
  const std::lock_guard lock(mutex);
  taken().erase(first_);
}

}  // namespace cumeta
