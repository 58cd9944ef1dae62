// SPDX-License-Identifier: Apache-2.0
// Times the passes of convolution, batch norm and the fused block on the published sizes, on a GPU: microseconds,
// GFLOP/s and the fraction of the FP32 peak, from replayed graphs that walk through more memory than L2 holds.
// Convolutions are also held against a double loop on the host at sampled numbers.
//
// Build: nvcc -std=c++20 -O3 -arch=sm_90 -I. -Iinclude bench/gpu/contraction_bench.cu \
//          $(find kernels -name '*_cuda.cu' ! -name plugin_cuda.cu) -o contraction_bench
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <stdexcept>
#include <vector>

#include "kernels/all_layers.h"
#include "kernels/backend_cuda.h"
#include "kernels/tools/cuda_check.h"

namespace cumeta {

void raise(ErrorKind, const std::string& text) { throw std::runtime_error(text); }
void raise_cuda(cudaError_t error, Op op, const std::string& details) {
  throw std::runtime_error(std::string(op.name) + ": " + cudaGetErrorString(error) + " " + details);
}

namespace {

constexpr double kPeak = 67e12;  // H100 SXM, FP32

/// Host numbers and their device copies, `sets` times over so that a replay never finds its operands in L2.
class Arrays {
 public:
  Arrays(int sets, int tasks) : sets_(sets), tasks_(tasks) {}
  ~Arrays() {
    for (float* p : device_) cudaFree(p);
  }
  /// Index of a new array of `size` numbers per task; sets differ in memory, not in content.
  int add(std::int64_t size, double scale, unsigned seed) {
    sizes_.push_back(size);
    std::vector<float> numbers(static_cast<std::size_t>(size * tasks_));
    std::mt19937 engine(seed);
    for (float& n : numbers) n = static_cast<float>(((engine() >> 8) * 0x1p-24 - 0.5) * scale);
    for (int s = 0; s < sets_; ++s) {
      float* p = nullptr;
      check(cudaMalloc(&p, std::max<std::size_t>(numbers.size(), 4) * 4), "allocate");
      check(cudaMemcpy(p, numbers.data(), numbers.size() * 4, cudaMemcpyHostToDevice), "upload");
      device_.push_back(p);
    }
    host_.push_back(std::move(numbers));
    return static_cast<int>(sizes_.size()) - 1;
  }
  Array at(int index, int set) const {
    const std::int64_t size = sizes_[static_cast<std::size_t>(index)];
    if (size == 0) return {};
    return {reinterpret_cast<std::byte*>(device_[static_cast<std::size_t>(index * sets_ + set)]), tasks_, size, size,
            Number::float32};
  }
  const std::vector<float>& host(int index) const { return host_[static_cast<std::size_t>(index)]; }
  std::vector<float> download(int index) const {
    std::vector<float> out(host(index).size());
    check(cudaMemcpy(out.data(), device_[static_cast<std::size_t>(index * sets_)], out.size() * 4,
                     cudaMemcpyDeviceToHost),
          "download");
    return out;
  }

 private:
  int sets_, tasks_;
  std::vector<std::int64_t> sizes_;
  std::vector<float*> device_;
  std::vector<std::vector<float>> host_;
};

enum Role { kW, kX, kY, kR, kDy, kDx, kDw, kRw, kRx, kRy, kRr, kRdy, kRdx, kRdw, kRoles };
constexpr const char* kPassNames[] = {"forward", "backward", "tangent forward", "tangent backward"};

/// Microseconds of one pass: the median of replays of a graph of `sets` passes.
template <class Pass>
double microseconds(CudaLane& lane, int sets, Pass&& pass) {
  lane.set_mode(CudaLane::Mode::load);
  pass(0);
  lane.set_mode(CudaLane::Mode::capture);
  check(cudaStreamBeginCapture(lane.stream(), cudaStreamCaptureModeThreadLocal), "capture");
  for (int s = 0; s < sets; ++s) pass(s);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  check(cudaStreamEndCapture(lane.stream(), &graph), "capture");
  check(cudaGraphInstantiate(&replay, graph, 0), "instantiate");
  lane.set_mode(CudaLane::Mode::run);
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  std::vector<float> times;
  for (int i = 0; i < 24; ++i) {
    check(cudaEventRecord(begin, lane.stream()), "event");
    check(cudaGraphLaunch(replay, lane.stream()), "replay");
    check(cudaEventRecord(end, lane.stream()), "event");
    check(cudaEventSynchronize(end), "wait");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "time");
    if (i >= 4) times.push_back(ms * 1000 / static_cast<float>(sets));
  }
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  cudaEventDestroy(begin), cudaEventDestroy(end);
  cudaGraphExecDestroy(replay), cudaGraphDestroy(graph);
  return times[times.size() / 2];
}

/// The convolution's sums in double, at sampled numbers: the largest error over the largest value.
class HostConvolution {
 public:
  HostConvolution(const Conv2d& l, const Geometry& g) : l_(l), g_(g), in_(g.input), out_(output(l, g.input)) {}

  template <class Term>  // term(pixel of x, tap, pixel of z) for every product that exists
  void for_each(int e, Term&& term) const {
    for (int y = 0; y < out_.height; ++y)
      for (int x = 0; x < out_.width; ++x)
        for (int v = 0; v < l_.kernel; ++v)
          for (int u = 0; u < l_.kernel; ++u) {
            const int sy = y * l_.stride - l_.padding + v, sx = x * l_.stride - l_.padding + u;
            if (sy >= 0 && sy < in_.height && sx >= 0 && sx < in_.width)
              term((e * in_.height + sy) * in_.width + sx, v * l_.kernel + u, (e * out_.height + y) * out_.width + x);
          }
  }
  double forward(const float* w, const float* x, int pixel, int f) const {
    double sum = 0;
    const int e = pixel / (out_.height * out_.width), C = in_.channels, F = l_.filters;
    for_each(e, [&](int p, int tap, int z) {
      if (z == pixel)
        for (int c = 0; c < C; ++c) sum += double(x[std::int64_t{p} * C + c]) * w[(tap * C + c) * F + f];
    });
    return sum;
  }
  double data(const float* w, const float* dz, int pixel, int c) const {
    double sum = 0;
    const int e = pixel / (in_.height * in_.width), C = in_.channels, F = l_.filters;
    for_each(e, [&](int p, int tap, int z) {
      if (p == pixel)
        for (int f = 0; f < F; ++f) sum += double(dz[std::int64_t{z} * F + f]) * w[(tap * C + c) * F + f];
    });
    return sum;
  }
  double weights(const float* x, const float* dz, int row, int f) const {
    double sum = 0;
    const int C = in_.channels, F = l_.filters;
    for (int e = 0; e < g_.examples; ++e)
      for_each(e, [&](int p, int tap, int z) {
        if (tap == row / C) sum += double(x[std::int64_t{p} * C + row % C]) * dz[std::int64_t{z} * F + f];
      });
    return sum;
  }

 private:
  Conv2d l_;
  Geometry g_;
  Shape in_, out_;
};

double judge(const Conv2d& l, const Geometry& g, int tasks, const Arrays& a, const int (&index)[kRoles], int pass) {
  const HostConvolution host(l, g);
  const std::int64_t weights = parameters(l, g.input) - (l.bias ? l.filters : 0);
  const std::int64_t sizes[kRoles] = {parameters(l, g.input), std::int64_t{g.examples} * g.input.size(),
                                      std::int64_t{g.examples} * output(l, g.input).size()};
  std::mt19937 engine(7);
  double error = 0, largest = 1e-30;
  const auto compare = [&](Role role, int columns, std::int64_t count, auto&& value) {
    if (a.at(index[role], 0).size == 0) return;
    const std::vector<float> got = a.download(index[role]);
    const std::int64_t size = static_cast<std::int64_t>(got.size()) / tasks;
    for (int i = 0; i < 24; ++i) {
      const int task = i % 2 ? tasks - 1 : 0;
      const std::int64_t at = engine() % count;
      const auto row = [&](Role r, std::int64_t n) { return a.host(index[r]).data() + task * n; };
      const double expected = value(row, static_cast<int>(at / columns), static_cast<int>(at % columns));
      largest = std::max(largest, std::abs(expected));
      error = std::max(error, std::abs(expected - got[static_cast<std::size_t>(task * size + at)]));
    }
  };
  const std::int64_t W = sizes[kW], X = sizes[kX], Y = sizes[kY];
  const int F = l.filters, C = g.input.channels;
  if (pass == 0)
    compare(kY, F, Y, [&](auto&& row, int p, int f) {
      return host.forward(row(kW, W), row(kX, X), p, f) + row(kW, W)[weights + f];
    });
  if (pass == 1) {
    compare(kDx, C, X, [&](auto&& row, int p, int c) { return host.data(row(kW, W), row(kDy, Y), p, c); });
    compare(kDw, F, weights, [&](auto&& row, int m, int f) { return host.weights(row(kX, X), row(kDy, Y), m, f); });
  }
  if (pass == 2)
    compare(kRy, F, Y, [&](auto&& row, int p, int f) {
      return host.forward(row(kRw, W), row(kX, X), p, f) + row(kRw, W)[weights + f] +
             (a.at(index[kRx], 0) ? host.forward(row(kW, W), row(kRx, X), p, f) : 0.0);
    });
  if (pass == 3) {
    compare(kRdx, C, X, [&](auto&& row, int p, int c) {
      return host.data(row(kW, W), row(kRdy, Y), p, c) + host.data(row(kRw, W), row(kDy, Y), p, c);
    });
    compare(kRdw, F, weights, [&](auto&& row, int m, int f) {
      return host.weights(row(kX, X), row(kRdy, Y), m, f) +
             (a.at(index[kRx], 0) ? host.weights(row(kRx, X), row(kDy, Y), m, f) : 0.0);
    });
  }
  return error / largest;
}

template <class L>
double time_layer(CudaLane& lane, const char* name, const L& layer, const Geometry& g, int tasks, bool first_layer) {
  const std::int64_t w = parameters(layer, g.input), x = std::int64_t{g.examples} * g.input.size(),
                     y = std::int64_t{g.examples} * output(layer, g.input).size();
  const std::int64_t sizes[kRoles] = {w,
                                      x,
                                      y,
                                      record(layer, g),
                                      y,
                                      first_layer ? 0 : x,
                                      w,
                                      w,
                                      first_layer ? 0 : x,
                                      y,
                                      tangent_record(layer, g),
                                      y,
                                      first_layer ? 0 : x,
                                      w};
  std::int64_t numbers = 0;
  for (const std::int64_t size : sizes) numbers += size;
  const int sets = static_cast<int>(std::clamp<std::int64_t>(200'000'000 / (numbers * tasks * 4) + 1, 2, 24));
  Arrays a(sets, tasks);
  int index[kRoles];
  for (int r = 0; r < kRoles; ++r) index[r] = a.add(sizes[r], 1.0, static_cast<unsigned>(r) + 1);
  Arrays room(1, tasks);
  const int scratch_index = room.add(scratch(layer, g, OnCuda{}), 1.0, 99);
  const auto passes = bind(layer, g, room.at(scratch_index, 0), lane);
  const auto values = [&](int s, bool tangent) {
    return tangent ? Values{a.at(index[kRw], s), a.at(index[kRx], s), a.at(index[kRy], s), a.at(index[kRr], s)}
                   : Values{a.at(index[kW], s), a.at(index[kX], s), a.at(index[kY], s), a.at(index[kR], s)};
  };
  const auto gradients = [&](int s, bool tangent) {
    return tangent ? Gradients{a.at(index[kRdy], s), a.at(index[kRdx], s), a.at(index[kRdw], s)}
                   : Gradients{a.at(index[kDy], s), a.at(index[kDx], s), a.at(index[kDw], s)};
  };
  const auto run = [&](int pass, int s) {
    if (pass == 0) passes->forward(values(s, false));
    if (pass == 1) passes->backward(values(s, false), gradients(s, false));
    if (pass == 2) passes->tangent_forward(values(s, false), values(s, true));
    if (pass == 3) passes->tangent_backward(values(s, false), gradients(s, false), values(s, true), gradients(s, true));
  };
  double total = 0;
  for (int pass = 0; pass < 4; ++pass) {
    run(pass, 0);  // set 0's outputs are judged, and are the next pass's record
    for (int s = 1; s < sets; ++s) run(pass, s);
    check(cudaStreamSynchronize(lane.stream()), kPassNames[pass]);
    double error = -1;
    if constexpr (std::is_same_v<L, Conv2d>) error = judge(layer, g, tasks, a, index, pass);
    const double us = microseconds(lane, sets, [&](int s) { run(pass, s); });
    const double terms = pass == 0   ? 1
                         : pass == 1 ? (first_layer ? 1 : 2)
                         : pass == 2 ? (first_layer ? 1 : 2)
                                     : (first_layer ? 1 : 4);
    const double flop = 2.0 * static_cast<double>(multiply_adds(layer, g.input)) * g.examples * tasks * terms;
    std::printf("%-44s %-17s %9.2f us %9.0f GFLOP/s %6.3f of peak", name, kPassNames[pass], us, flop / us / 1e3,
                flop / (us * 1e-6) / kPeak);
    if (error >= 0) std::printf("   error %.1e%s", error, error < 1e-5 ? "" : "  WRONG");
    std::printf("\n");
    total += us * (pass < 2 ? 2 : 1);
  }
  return total;
}

struct Block {
  Shape input;
  int filters, stride;
  bool pooled;
};

void time_network(CudaLane& lane, const char* network, const std::vector<Block>& blocks, int tasks, int examples) {
  double layers = 0, fused = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const Block& b = blocks[i];
    const Conv2d conv{.filters = b.filters, .kernel = 3, .stride = b.stride, .padding = 1};
    const Geometry g{b.input, examples, examples};
    const Shape z = output(conv, b.input);
    char name[96];
    const auto title = [&](const char* what) {
      std::snprintf(name, sizeof name, "%s %s %zu %dx%dx%d->%dx%dx%d", network, what, i + 1, b.input.height,
                    b.input.width, b.input.channels, z.height, z.width, z.channels);
      return name;
    };
    layers += time_layer(lane, title("conv"), conv, g, tasks, i == 0);
    layers += time_layer(lane, title("batch norm"), BatchNorm{}, {z, examples, examples}, tasks, false);
    const ConvBlock block{conv, {}, b.pooled, {}};
    fused += time_layer(lane, title("block"), block, g, tasks, i == 0);
  }
  std::printf("%s: two gradients and a Hessian product: conv + batch norm %.1f us, blocks %.1f us\n\n", network, layers,
              fused);
}

}  // namespace
}  // namespace cumeta

int main() {
  using namespace cumeta;
  try {
    DeviceModel device;
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, 0), "device");
    device.name = properties.name, device.capability = properties.major * 10 + properties.minor;
    device.multiprocessors = properties.multiProcessorCount, device.shared_memory = properties.sharedMemPerBlockOptin;
    std::printf("%s, %d multiprocessors\n", properties.name, properties.multiProcessorCount);
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    CudaLane lane(device, stream, false, false);
    time_network(lane, "Omniglot",
                 {{{28, 28, 1}, 64, 2, false},
                  {{14, 14, 64}, 64, 2, false},
                  {{7, 7, 64}, 64, 2, false},
                  {{4, 4, 64}, 64, 2, false}},
                 32, 5);
    time_network(lane, "miniImageNet",
                 {{{84, 84, 3}, 32, 1, true},
                  {{42, 42, 32}, 32, 1, true},
                  {{21, 21, 32}, 32, 1, true},
                  {{10, 10, 32}, 32, 1, true}},
                 4, 75);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
