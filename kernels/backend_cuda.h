// SPDX-License-Identifier: Apache-2.0
// A lane of the CUDA backend: one stream, and what kernels may know of its device.
#pragma once
#include <cuda_runtime.h>

#include <cassert>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "kernels/backend.h"
#include "kernels/plugin.h"
#include "kernels/row.h"
#include "kernels/tools/ticket_range_cuda.h"
#include "kernels/vendor_calls.h"

namespace cumeta {

/// What tiles and grids may be chosen by. Equal models give equal bits.
struct DeviceModel {
  int ordinal = 0;
  std::string name;
  int capability = 0;  ///< 90 for sm_90
  int multiprocessors = 1;
  std::size_t shared_memory = 0;  ///< bytes a block may opt in to
  std::size_t memory = 0;
  std::size_t l2 = 0;
  bool emulated = false;
};

class CudaLane final : public Lane {
 public:
  /// What a launch does: run; or, in the walk before a capture, only load its kernel so that the capture allocates and
  /// sets nothing.
  enum class Mode { run, load, capture };

  CudaLane(const DeviceModel& device, cudaStream_t stream, bool tf32, bool debug)
      : device_(device), stream_(stream), tf32_(tf32), debug_(debug) {}

  cudaStream_t stream() const { return stream_; }
  const DeviceModel& device() const { return device_; }
  bool tf32() const { return tf32_; }    ///< TF32 products are allowed in linear and convolution
  bool debug() const { return debug_; }  ///< wait after every launch, so that a fault names its op
  /// cuBLAS and cuDNN on this lane's stream; there where the backend was opened with `vendor`.
  VendorQueue& vendor() const {
    assert(vendor_);
    return *vendor_;
  }
  void set_vendor(std::unique_ptr<VendorQueue> vendor) { vendor_ = std::move(vendor); }
  /// Counters for phased kernels on this lane: of `words` or more.
  std::shared_ptr<const TicketRange> tickets(int words) {
    if (!tickets_ || tickets_->words() < words) tickets_ = std::make_shared<const TicketRange>(words);
    return tickets_;
  }
  Mode mode() const { return mode_; }
  void set_mode(Mode mode) { mode_ = mode; }

  std::unique_ptr<LayerPasses> bind(const Stage& stage, const Geometry& geometry, Array scratch) override;
  std::unique_ptr<LossPasses> bind(const Loss& loss, const LossGeometry& geometry) override;
  void upload(Array from, Array out) override;
  void fill(Array out, double value) override;
  void copy(Array from, Array out) override;
  void add(Array out, double a, Array x) override;
  void subtract(Array out, Array a, Array b) override;
  void multiply(Array out, Array a, Array b) override;
  void add_product(Array out, double s, Array a, Array b) override;
  void descend(Array out, Array w, Array rate, Array g) override;
  void descend_adam(Array out, Array w, Array second, Array rate, Array g, double beta2, double eps, Array count,
                    int step) override;
  void record_to_statistics(Array out, Array record, double eps) override;
  void statistics_to_record(Array record, Array statistics, double eps) override;

 private:
  const DeviceModel& device_;
  cudaStream_t stream_;
  bool tf32_, debug_;
  Mode mode_ = Mode::run;
  std::unique_ptr<VendorQueue> vendor_;
  std::shared_ptr<const TicketRange> tickets_;
};

/// Opens a device: checks driver, ordinal and capability, each failure a DeviceUnavailable with its remedy.
std::unique_ptr<Backend> open_cuda_backend(const CudaOptions& options);
/// The devices of this machine, at most `capacity` of them written; throws DeviceUnavailable when there is none.
int list_cuda_devices(CudaDevice* devices, int capacity);

}  // namespace cumeta
