// SPDX-License-Identifier: Apache-2.0
// Through the ring go pieces of at most one buffer: whole rows while several fit, parts of a row where one does not.
#include <algorithm>
#include <cassert>
#include <cstring>
#include <string>
#include <type_traits>

#include "kernels/tools/staging_cuda.h"

namespace cumeta {
namespace {

/// Rows [row, row + rows), columns [column, column + columns) of an array.
struct Piece {
  std::int64_t row, rows, column, columns;
};

/// Cuts an array into pieces of at most `most` numbers, in the order in which a host span holds them.
template <class Use>
void for_each_piece(const Array& array, std::int64_t most, Use&& use) {
  const std::int64_t rows = array.stride == 0 ? 1 : array.tasks;
  if (rows <= 0 || array.size <= 0) return;
  if (array.size > most) {
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t column = 0; column < array.size; column += most)
        use(Piece{row, 1, column, std::min(most, array.size - column)});
    return;
  }
  const std::int64_t together = most / array.size;
  for (std::int64_t row = 0; row < rows; row += together)
    use(Piece{row, std::min(together, rows - row), 0, array.size});
}

std::byte* start_of(const Array& array, const Piece& piece) {
  return array.data + (piece.row * array.stride + piece.column) * bytes_of(array.number);
}

/// One copy, whatever the stride.
void copy(const Array& array, const Piece& piece, std::byte* host, cudaMemcpyKind kind, cudaStream_t stream, Op op) {
  const std::size_t width = static_cast<std::size_t>(piece.columns) * bytes_of(array.number);
  const std::size_t pitch = piece.rows > 1 ? static_cast<std::size_t>(array.stride) * bytes_of(array.number) : width;
  std::byte* device = start_of(array, piece);
  const bool up = kind == cudaMemcpyHostToDevice;
  if (pitch == width)
    check(cudaMemcpyAsync(up ? device : host, up ? host : device, width * static_cast<std::size_t>(piece.rows), kind,
                          stream),
          op);
  else
    check(cudaMemcpy2DAsync(up ? device : host, up ? pitch : width, up ? host : device, up ? width : pitch, width,
                            static_cast<std::size_t>(piece.rows), kind, stream),
          op);
}

template <class To, class From>
void convert(const From* from, std::byte* to, std::int64_t count) {
  if constexpr (std::is_same_v<To, From>)
    std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(To));
  else
    std::transform(from, from + count, reinterpret_cast<To*>(to), [](From number) { return static_cast<To>(number); });
}

PinnedMemory pin(std::size_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaHostAlloc(&memory, bytes ? bytes : 1, cudaHostAllocDefault);
  if (error == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    raise(ErrorKind::out_of_memory,
          "host memory: " + std::to_string(bytes) + " bytes cannot be pinned; take fewer tasks at a time");
  }
  check(error, "allocate pinned host memory");
  return PinnedMemory(static_cast<std::byte*>(memory));
}

}  // namespace

Staging::Staging(cudaStream_t stream) : stream_(stream) {
  for (Slot& slot : slots_) slot = {pin(kSlotBytes), make_event()};
}

Staging::Slot& Staging::next_slot() {
  Slot& slot = slots_[next_];
  next_ = (next_ + 1) % slots_.size();
  check(cudaEventSynchronize(slot.free.get()), "wait for a staging buffer");
  return slot;
}

template <class From>
void Staging::upload(std::span<const From> from, Array to) {
  assert(static_cast<std::int64_t>(from.size()) == (to.stride == 0 ? 1 : to.tasks) * to.size);
  const From* next = from.data();
  for_each_piece(to, static_cast<std::int64_t>(kSlotBytes) / bytes_of(to.number), [&](const Piece& piece) {
    Slot& slot = next_slot();
    const std::int64_t count = piece.rows * piece.columns;
    if (to.number == Number::float64)
      convert<double>(next, slot.memory.get(), count);
    else
      convert<float>(next, slot.memory.get(), count);
    copy(to, piece, slot.memory.get(), cudaMemcpyHostToDevice, stream_, "upload");
    check(cudaEventRecord(slot.free.get(), stream_), "upload");
    next += count;
  });
}
template void Staging::upload(std::span<const float>, Array);
template void Staging::upload(std::span<const double>, Array);

void Staging::download(Array from, std::span<double> to) {
  assert(static_cast<std::int64_t>(to.size()) == (from.stride == 0 ? 1 : from.tasks) * from.size);
  double* next = to.data();
  for_each_piece(from, static_cast<std::int64_t>(kSlotBytes) / bytes_of(from.number), [&](const Piece& piece) {
    Slot& slot = next_slot();
    copy(from, piece, slot.memory.get(), cudaMemcpyDeviceToHost, stream_, "download");
    check(cudaStreamSynchronize(stream_), "download");
    const std::int64_t count = piece.rows * piece.columns;
    if (from.number == Number::float64)
      std::memcpy(next, slot.memory.get(), static_cast<std::size_t>(count) * sizeof(double));
    else
      std::transform(reinterpret_cast<const float*>(slot.memory.get()),
                     reinterpret_cast<const float*>(slot.memory.get()) + count, next,
                     [](float number) { return static_cast<double>(number); });
    next += count;
  });
  // A span of no numbers waits too.
  check(cudaStreamSynchronize(stream_), "download");
}

PinnedUploadBuffer::PinnedUploadBuffer(std::size_t bytes, cudaStream_t stream)
    : UploadBuffer(pin(bytes)), stream_(stream), read_(make_event()) {}

void upload_rows(const Array& from, const Array& to, cudaStream_t stream) {
  assert(from.number == to.number && from.tasks == to.tasks && from.size == to.size && from.stride == from.size);
  copy(to, {0, to.tasks, 0, to.size}, from.data, cudaMemcpyHostToDevice, stream, "upload");
}

}  // namespace cumeta
