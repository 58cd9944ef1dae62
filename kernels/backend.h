// SPDX-License-Identifier: Apache-2.0
// What the decisions in src/ may ask of a device: memory, lanes that run passes and algebra in order, and the end of a
// meta-update.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cumeta/layers.h"
#include "kernels/array.h"
#include "kernels/layer.h"
#include "kernels/outer_step.h"
#include "kernels/stage.h"

namespace cumeta {

struct EpisodeTables;
struct MlpProgram;
struct MlpArrays;

/// An in-order queue of a device: one worker of the CPU's pool, or one CUDA stream.
/// Algebra works on tasks [0, out.tasks); a shared row (stride 0) may stand for any input.
class Lane {
 public:
  virtual ~Lane() = default;
  /// `scratch` has need(stage, geometry).scratch numbers per task; several bound stages of a lane share it.
  virtual std::unique_ptr<LayerPasses> bind(const Stage& stage, const Geometry& geometry, Array scratch) = 0;
  virtual std::unique_ptr<LossPasses> bind(const Loss& loss, const LossGeometry& geometry) = 0;

  /// `from` lies in an UploadBuffer, float32, and is read when the lane comes to it.
  virtual void upload(Array from, Array out) = 0;
  virtual void fill(Array out, double value) = 0;
  virtual void copy(Array from, Array out) = 0;
  virtual void add(Array out, double a, Array x) = 0;                   // out += a x
  virtual void subtract(Array out, Array a, Array b) = 0;               // out = a - b
  virtual void multiply(Array out, Array a, Array b) = 0;               // out = a * b
  virtual void add_product(Array out, double s, Array a, Array b) = 0;  // out += s a * b
  virtual void descend(Array out, Array w, Array rate, Array g) = 0;    // out = w - rate * g
  /// Adam without momentum (beta1 = 0); n = count[0] + step, with count [1][1] float64 read when it runs:
  ///   second = beta2 second + (1 - beta2) g^2;   out = w - rate * g / (sqrt(second / (1 - beta2^n)) + eps)
  virtual void descend_adam(Array out, Array w, Array second, Array rate, Array g, double beta2, double eps,
                            Array count, int step) = 0;
  /// From a batch norm's record [mean channels | 1/sigma channels] the mean and variance: out = [mean | 1/sigma^2 -
  /// eps].
  virtual void record_to_statistics(Array out, Array record, double eps) = 0;
  /// The reverse: record = [mean | 1/sqrt(variance + eps)].
  virtual void statistics_to_record(Array record, Array statistics, double eps) = 0;
};

/// Work that is recorded once and run again and again: a CUDA graph, or simply the calls.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void run() = 0;
  virtual int kernel_nodes() const { return 0; }
};

/// Host memory that lanes upload from: recorded uploads read it anew at every run.
struct UploadBuffer {
  explicit UploadBuffer(std::shared_ptr<std::byte> bytes) : memory(std::move(bytes)) {}
  virtual ~UploadBuffer() = default;
  UploadBuffer(const UploadBuffer&) = delete;
  UploadBuffer& operator=(const UploadBuffer&) = delete;
  /// Everything that shall read what the memory holds now is queued.
  virtual void queued() {}
  /// Returns when all of that has read it.
  virtual void wait() {}

  const std::shared_ptr<std::byte> memory;
};

class Backend {
 public:
  virtual ~Backend() = default;
  /// "reference", "cpu (AVX2, 2 threads)", "cuda (NVIDIA H100)", "cuda (emulated)".
  virtual std::string name() const = 0;
  virtual Number number() const = 0;
  /// The host may read and write its arrays between for_each_chunk calls, and inside one those of its own chunk.
  virtual bool on_host() const { return false; }

  /// Memory that lives as long as the backend's caller keeps it. Throws OutOfMemory.
  virtual std::shared_ptr<std::byte> allocate(std::size_t bytes) = 0;
  /// Host memory, not counted by the plan. Throws OutOfMemory. The default is that of a host device.
  virtual std::unique_ptr<UploadBuffer> make_upload_buffer(std::size_t bytes) {
    return std::make_unique<UploadBuffer>(allocate(bytes));
  }

  virtual int lanes() const = 0;
  virtual Lane& lane(int index) = 0;
  /// Runs work(chunk, lane index) for every chunk on lanes [0, lanes): cores take them from a counter, streams in turn.
  /// The first failing chunk's exception is thrown. Everything queued before is visible to the chunks, everything after
  /// sees their results.
  virtual void for_each_chunk(int chunks, int lanes, const std::function<void(int chunk, int lane)>& work) = 0;

  /// Ends a meta-update, after all chunks: see OuterStep.
  virtual void outer_step(const OuterStep& step) = 0;

  /// Host to device and back; download waits for everything queued. Numbers are converted to the backend's type.
  virtual void upload(std::span<const float> from, Array to) = 0;
  virtual void upload(std::span<const double> from, Array to) = 0;
  virtual void download(Array from, std::span<double> to) = 0;

  /// `calls` may only queue work. The default of a host device keeps them and calls them at every run.
  virtual std::unique_ptr<Recording> record(std::function<void()> calls) = 0;
  /// Runs a recording and waits: how long the device took, in milliseconds.
  virtual double timed_run(Recording& recording) {
    const auto begin = std::chrono::steady_clock::now();
    recording.run();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  }

  /// Memory that the backend holds for itself and the plan counts.
  virtual std::int64_t own_bytes() const { return 0; }

  /// Episodes drawn where the tasks run. Null when this backend draws none itself: the host draws and uploads.
  /// Takes what the data set keeps resident; `iteration` is read from control[kControlIteration] at run time.
  virtual bool draws_episodes() const { return false; }
  virtual void open_episodes(const EpisodeTables& /*tables*/) {}
  virtual void draw_episodes(Lane& /*lane*/, Array /*x*/, Array /*t*/, int /*first_task*/, Array /*control*/) {}

  /// Whole inner loops of small models in one piece (kernels/programs/mlp_program.h): whether this backend runs one,
  /// and whether it can draw the open episodes inside it.
  virtual bool runs_program(const MlpProgram& /*program*/) const { return false; }
  virtual bool program_draws(const MlpProgram& /*program*/) const { return false; }
  /// Fills the rows of tasks [0, arrays.row.tasks). With control the program draws tasks first_task, first_task + 1,
  /// ... of the open episodes itself; without (empty) x and t are given.
  virtual void run_program(Lane& /*lane*/, const MlpProgram& /*program*/, const MlpArrays& /*arrays*/,
                           int /*first_task*/, Array /*control*/) {}
};

std::unique_ptr<Backend> open_reference();
std::unique_ptr<Backend> open_cpu(int threads, bool pin);
/// Streams that a learner's backend opens.
constexpr int kCudaLanes = 2;
/// Tasks of a chunk: as far as the counters of phased kernels go (kernels/tools/ticket_range_cuda.h).
constexpr int kMostCudaChunk = 65'535;

class VendorQueue;
struct VendorOptions;
/// Throws DeviceUnavailable or PluginMismatch.
struct CudaOptions {
  int ordinal = 0;
  int lanes = 1;
  bool tf32 = false;
  bool vendor = false;  ///< Vendor<...> stages may be bound: cuBLAS and cuDNN are loaded, one queue per lane
  /// Filled in by open_cuda where vendor is wanted.
  VendorQueue* (*open_vendor)(const VendorOptions& options) = nullptr;
};
std::unique_ptr<Backend> open_cuda(const CudaOptions& options);

}  // namespace cumeta
