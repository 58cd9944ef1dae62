// SPDX-License-Identifier: Apache-2.0
// Who counts where: phased kernels (kernels/tools/tickets_cuda.cuh) of one lane run in their order and share a range of
// counters; those of two lanes never meet in one.
#pragma once

namespace cumeta {

constexpr int kTicketWords = 1 << 20;

/// A range of the counters, nobody else's while it lives. Throws OutOfMemory.
class TicketRange {
 public:
  explicit TicketRange(int words);
  ~TicketRange();
  TicketRange(const TicketRange&) = delete;
  TicketRange& operator=(const TicketRange&) = delete;
  int first() const { return first_; }
  int words() const { return words_; }

 private:
  int first_ = 0, words_;
};

}  // namespace cumeta
