// SPDX-License-Identifier: Apache-2.0
// Host memory to device and back through a ring of pinned buffers of fixed size; numbers are converted on the host.
#pragma once
#include <array>
#include <cstddef>
#include <span>

#include "kernels/array.h"
#include "kernels/tools/cuda_handles.h"

namespace cumeta {

class Staging {
 public:
  explicit Staging(cudaStream_t stream);

  /// `from` holds the rows of `to` one after another; one row, when `to` is shared. Queued on the stream; `from` may be
  /// reused at once.
  template <class From>
  void upload(std::span<const From> from, Array to);
  /// Waits for everything queued on the stream.
  void download(Array from, std::span<double> to);

 private:
  struct Slot {
    PinnedMemory memory;
    Event free;  ///< the copy out of (or into) it is done
  };
  Slot& next_slot();

  static constexpr std::size_t kSlotBytes = std::size_t{1} << 20;
  cudaStream_t stream_;
  std::array<Slot, 4> slots_;
  std::size_t next_ = 0;
};

}  // namespace cumeta
