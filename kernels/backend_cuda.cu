// SPDX-License-Identifier: Apache-2.0
// The CUDA backend: memory, streams as lanes, transfers, and a meta-iteration captured in one graph.
#include <nvtx3/nvToolsExt.h>

#include <cstdio>
#include <string>
#include <utility>
#include <variant>

#include "kernels/all_layers.h"
#include "kernels/backend_cuda.h"
#include "kernels/device_cuda.h"
#include "kernels/episodes_cuda.h"
#include "kernels/outer_step_cuda.h"
#include "kernels/programs/mlp_program_cuda.h"
#include "kernels/tools/cuda_handles.h"
#include "kernels/tools/host_recording.h"
#include "kernels/tools/staging_cuda.h"

namespace cumeta {
namespace {

/// A captured graph on the stream of lane 0.
class GraphRecording final : public Recording {
 public:
  GraphRecording(int ordinal, cudaStream_t stream, cudaGraph_t graph) : ordinal_(ordinal), stream_(stream) {
    cudaGraphExec_t executable = nullptr;
    check(cudaGraphInstantiate(&executable, graph, 0), "instantiate a graph");
    executable_.reset(executable);
    check(cudaGraphUpload(executable, stream), "upload a graph");
    std::size_t count = 0;
    check(cudaGraphGetNodes(graph, nullptr, &count), "count a graph's nodes");
    std::vector<cudaGraphNode_t> nodes(count);
    if (count) check(cudaGraphGetNodes(graph, nodes.data(), &count), "count a graph's nodes");
    for (cudaGraphNode_t node : nodes) {
      cudaGraphNodeType type{};
      check(cudaGraphNodeGetType(node, &type), "count a graph's nodes");
      kernel_nodes_ += type == cudaGraphNodeTypeKernel;
    }
  }
  void run() override {
    check(cudaSetDevice(ordinal_), "run a graph");
    nvtxRangePushA("cumeta graph");
    const cudaError_t error = cudaGraphLaunch(executable_.get(), stream_);
    nvtxRangePop();
    check(error, "run a graph");
  }
  int kernel_nodes() const override { return kernel_nodes_; }

 private:
  int ordinal_;
  cudaStream_t stream_;
  GraphExec executable_;
  int kernel_nodes_ = 0;
};

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const CudaOptions& options)
      : device_(open_device(options.ordinal, options.tf32)),
        streams_(make_streams(options.lanes)),
        forked_(make_event()),
        staging_(streams_[0].get()),
        outer_workspace_(allocate(kOuterStepWorkspace)) {
    for (const Stream& stream : streams_) {
      lanes_.push_back(std::make_unique<CudaLane>(device_, stream.get(), options.tf32, cuda_debug()));
      joined_.push_back(make_event());
    }
    if (options.vendor) open_vendor(options);
    check(cudaMemsetAsync(outer_workspace_.get(), 0, kOuterStepWorkspace, streams_[0].get()), "open");
    check(cudaStreamSynchronize(streams_[0].get()), "open");
  }
  ~CudaBackend() override {
    // What is queued may still use the caller's memory.
    for (const Stream& stream : streams_) static_cast<void>(cudaStreamSynchronize(stream.get()));
  }

  std::string name() const override { return device_.emulated ? "cuda (emulated)" : "cuda (" + device_.name + ")"; }
  Number number() const override { return Number::float32; }

  std::shared_ptr<std::byte> allocate(std::size_t bytes) override;
  std::unique_ptr<UploadBuffer> make_upload_buffer(std::size_t bytes) override {
    check(cudaSetDevice(device_.ordinal), "allocate pinned host memory");
    return std::make_unique<PinnedUploadBuffer>(bytes, streams_[0].get());
  }

  int lanes() const override { return static_cast<int>(lanes_.size()); }
  Lane& lane(int index) override { return *lanes_.at(static_cast<std::size_t>(index)); }
  void for_each_chunk(int chunks, int lanes, const std::function<void(int chunk, int lane)>& work) override;
  void outer_step(const OuterStep& step) override { outer_step_cuda(*lanes_[0], step, outer_workspace_.get()); }

  void upload(std::span<const float> from, Array to) override {
    check(cudaSetDevice(device_.ordinal), "upload");
    staging_.upload(from, to);
  }
  void upload(std::span<const double> from, Array to) override {
    check(cudaSetDevice(device_.ordinal), "upload");
    staging_.upload(from, to);
  }
  void download(Array from, std::span<double> to) override {
    check(cudaSetDevice(device_.ordinal), "download");
    staging_.download(from, to);
  }

  std::unique_ptr<Recording> record(std::function<void()> calls) override;
  double timed_run(Recording& recording) override;
  std::int64_t own_bytes() const override {
    return kOuterStepWorkspace + (vendor_workspace_ ? lanes() * kVendorWorkspace : 0);
  }

  bool draws_episodes() const override { return true; }
  /// A recording that draws is made anew after this.
  void open_episodes(const EpisodeTables& tables) override {
    episodes_.reset();
    episodes_ = std::make_unique<DeviceEpisodes>(tables, *this, streams_[0].get());
  }
  void draw_episodes(Lane& lane, Array x, Array t, int first_task, Array control) override {
    episodes_->draw(static_cast<CudaLane&>(lane), x, t, first_task, control);
  }

  bool runs_program(const MlpProgram& program) const override { return runs_mlp_program(*lanes_[0], program); }
  bool program_draws(const MlpProgram& program) const override {
    if (!episodes_ || !program_draws_sinusoids(program)) return false;
    const auto* sinusoid = std::get_if<SinusoidEpisodes>(&episodes_->tables().kind);
    return sinusoid && sinusoid->rows == program.support + program.query;
  }
  void run_program(Lane& lane, const MlpProgram& program, const MlpArrays& arrays, int first_task,
                   Array control) override {
    DrawnSinusoids drawn;
    if (control) {
      const EpisodeTables& tables = episodes_->tables();
      drawn = {tables.seed, tables.purpose, std::get<SinusoidEpisodes>(tables.kind).ranges, first_task,
               control.row<const double>(0)};
    }
    run_mlp_program(static_cast<CudaLane&>(lane), program, arrays, drawn);
  }

 private:
  static std::vector<Stream> make_streams(int count) {
    std::vector<Stream> streams;
    for (int i = 0; i < (count < 1 ? 1 : count); ++i) streams.push_back(make_stream());
    return streams;
  }
  void open_vendor(const CudaOptions& options) {
    vendor_workspace_ = allocate(streams_.size() * static_cast<std::size_t>(kVendorWorkspace));
    for (std::size_t i = 0; i < streams_.size(); ++i)
      lanes_[i]->set_vendor(std::unique_ptr<VendorQueue>(
          options.open_vendor({.ordinal = device_.ordinal,
                               .stream = streams_[i].get(),
                               .workspace = vendor_workspace_.get() + i * static_cast<std::size_t>(kVendorWorkspace),
                               .workspace_bytes = kVendorWorkspace,
                               .tf32 = options.tf32})));
  }
  void set_mode(CudaLane::Mode mode) {
    for (auto& lane : lanes_) lane->set_mode(mode);
  }

  DeviceModel device_;
  std::vector<Stream> streams_;
  Event forked_;
  std::vector<Event> joined_;
  std::shared_ptr<std::byte> vendor_workspace_;  // outlives the lanes' queues
  std::vector<std::unique_ptr<CudaLane>> lanes_;
  Staging staging_;
  std::shared_ptr<std::byte> outer_workspace_;
  std::unique_ptr<DeviceEpisodes> episodes_;
};

std::string amount(std::size_t bytes) {
  char text[64];
  std::snprintf(text, sizeof text, "%.2f MiB", static_cast<double>(bytes) / 1048576.0);
  return text;
}

std::shared_ptr<std::byte> CudaBackend::allocate(std::size_t bytes) {
  check(cudaSetDevice(device_.ordinal), "allocate");
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, bytes ? bytes : 1);
  if (error == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "allocate");
    raise(ErrorKind::out_of_memory, "cuda: " + amount(bytes) + " are needed, device " +
                                        std::to_string(device_.ordinal) + " (" + device_.name + ") has " +
                                        amount(free) + " free of " + amount(total) +
                                        "; set run.memory_limit, take fewer tasks per chunk (plan.chunk), or set "
                                        "plan.activations = \"recompute\"");
  }
  check(error, "allocate");
  std::shared_ptr<std::byte> owner(static_cast<std::byte*>(memory),
                                   [](std::byte* p) { static_cast<void>(cudaFree(p)); });
  // NaN everywhere, as on the host devices: a number read before it is written cannot go unseen.
  check(cudaMemsetAsync(memory, 0xff, bytes, streams_[0].get()), "allocate");
  check(cudaStreamSynchronize(streams_[0].get()), "allocate");
  return owner;
}

void CudaBackend::for_each_chunk(int chunks, int lanes, const std::function<void(int chunk, int lane)>& work) {
  lanes = std::min({lanes, chunks, static_cast<int>(lanes_.size())});
  const bool fork = lanes > 1 && lanes_[0]->mode() != CudaLane::Mode::load;
  if (fork) {
    check(cudaSetDevice(device_.ordinal), "fork");
    check(cudaEventRecord(forked_.get(), streams_[0].get()), "fork");
    for (int lane = 1; lane < lanes; ++lane)
      check(cudaStreamWaitEvent(streams_[static_cast<std::size_t>(lane)].get(), forked_.get(), 0), "fork");
  }
  for (int chunk = 0; chunk < chunks; ++chunk) work(chunk, chunk % lanes);
  if (fork)
    for (std::size_t lane = 1; lane < static_cast<std::size_t>(lanes); ++lane) {
      check(cudaEventRecord(joined_[lane].get(), streams_[lane].get()), "join");
      check(cudaStreamWaitEvent(streams_[0].get(), joined_[lane].get(), 0), "join");
    }
}

std::unique_ptr<Recording> CudaBackend::record(std::function<void()> calls) {
  if (lanes_[0]->debug()) return std::make_unique<HostRecording>(std::move(calls));
  check(cudaSetDevice(device_.ordinal), "record");
  struct BackToRun {
    CudaBackend& backend;
    ~BackToRun() { backend.set_mode(CudaLane::Mode::run); }
  } back_to_run{*this};
  // A first walk loads every kernel and raises its limits: inside the capture nothing may be loaded or allocated.
  set_mode(CudaLane::Mode::load);
  calls();
  set_mode(CudaLane::Mode::capture);
  const cudaStream_t stream = streams_[0].get();
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "record");
  cudaGraph_t captured = nullptr;
  try {
    calls();
  } catch (...) {
    static_cast<void>(cudaStreamEndCapture(stream, &captured));
    if (captured) static_cast<void>(cudaGraphDestroy(captured));
    static_cast<void>(cudaGetLastError());
    throw;
  }
  check(cudaStreamEndCapture(stream, &captured), "record");
  const Graph graph(captured);
  return std::make_unique<GraphRecording>(device_.ordinal, stream, captured);
}

double CudaBackend::timed_run(Recording& recording) {
  check(cudaSetDevice(device_.ordinal), "time a recording");
  const Event begin = make_event(cudaEventDefault), end = make_event(cudaEventDefault);
  check(cudaEventRecord(begin.get(), streams_[0].get()), "time a recording");
  recording.run();
  check(cudaEventRecord(end.get(), streams_[0].get()), "time a recording");
  check(cudaEventSynchronize(end.get()), "time a recording");
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "time a recording");
  return static_cast<double>(milliseconds);
}

}  // namespace

std::unique_ptr<LayerPasses> CudaLane::bind(const Stage& stage, const Geometry& geometry, Array scratch) {
  return std::visit([&](const auto& layer) { return cumeta::bind(layer, geometry, scratch, *this); }, stage);
}
std::unique_ptr<LossPasses> CudaLane::bind(const Loss& loss, const LossGeometry& geometry) {
  return std::visit([&](const auto& l) { return cumeta::bind(l, geometry, *this); }, loss);
}

void CudaLane::upload(Array from, Array out) {
  if (mode_ != Mode::load) upload_rows(from, out, stream_);
}

std::unique_ptr<Backend> open_cuda_backend(const CudaOptions& options) {
  return std::make_unique<CudaBackend>(options);
}

}  // namespace cumeta
