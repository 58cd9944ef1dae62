// SPDX-License-Identifier: Apache-2.0
// Host memory to device and back: through a ring of pinned buffers of fixed size, with numbers converted on the host;
// or straight from pinned memory that the caller writes.
#pragma once
#include <array>
#include <cstddef>
#include <span>

#include "kernels/array.h"
#include "kernels/backend.h"
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

/// Pinned memory; waits for what the stream still reads before it goes.
class PinnedUploadBuffer final : public UploadBuffer {
 public:
  PinnedUploadBuffer(std::size_t bytes, cudaStream_t stream);
  ~PinnedUploadBuffer() override { static_cast<void>(cudaEventSynchronize(read_.get())); }
  void queued() override { check(cudaEventRecord(read_.get(), stream_), "upload"); }
  void wait() override { check(cudaEventSynchronize(read_.get()), "wait for an upload"); }

 private:
  cudaStream_t stream_;
  Event read_;
};

/// One copy of rows in pinned memory to a device, whatever their strides.
void upload_rows(const Array& from, const Array& to, cudaStream_t stream);

}  // namespace cumeta
