// SPDX-License-Identifier: Apache-2.0
// Every row and loss on random sizes: the device's four passes, each fed the reference's values, against the
// reference's. A row of numbers is judged per task: |actual - expected| over the largest |expected|.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "kernels/all_layers.h"
#include "kernels/tools/tolerances.h"
#include "src/model_layout.h"
#include "src/selftest_rows.h"

namespace cumeta {
namespace {

using judging::Pass;
constexpr int tasks = 3;

/// An array on a backend that owns its memory, and its numbers on the host.
class OwnedArray {
 public:
  OwnedArray() = default;
  OwnedArray(Backend& backend, std::int64_t size) : backend_(&backend) {
    if (size == 0) return;
    const Number number = backend.number();
    block_ = backend.allocate(static_cast<std::size_t>(tasks * size * bytes_of(number)));
    array_ = {block_.get(), tasks, size, size, number};
  }
  Array get() const { return array_; }
  void put(const std::vector<double>& values) {
    if (array_) backend_->upload(std::span<const double>(values), array_);
  }
  std::vector<double> numbers() const {
    std::vector<double> values(static_cast<std::size_t>(array_.size * (array_ ? tasks : 0)));
    if (array_) backend_->download(array_, values);
    return values;
  }

 private:
  Backend* backend_ = nullptr;
  std::shared_ptr<std::byte> block_;
  Array array_;
};

double error_of(const std::vector<double>& actual, const std::vector<double>& expected) {
  double worst = 0;
  const std::size_t size = expected.size() / tasks;
  for (std::size_t task = 0; task < static_cast<std::size_t>(tasks) && size > 0; ++task) {
    double difference = 0, largest = 0;
    for (std::size_t i = task * size; i < (task + 1) * size; ++i) {
      const double d = std::fabs(actual[i] - expected[i]);
      if (!std::isfinite(d)) return HUGE_VAL;
      difference = std::max(difference, d), largest = std::max(largest, std::fabs(expected[i]));
    }
    if (difference > 0) worst = std::max(worst, difference / std::max(largest, 1e-30));
  }
  return worst;
}

/// Numbers that stay clear of zero, exact in float32; whole numbers below a bound. The same on every machine.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : engine_(seed) {}
  int below(int bound) { return static_cast<int>(engine_() % static_cast<std::uint64_t>(bound)); }
  int from(int low, int high) { return low + below(high - low + 1); }
  std::vector<double> numbers(std::int64_t size) {
    std::vector<double> all(static_cast<std::size_t>(tasks * size));
    for (double& value : all) {
      const double magnitude = 0.1 + 0.9 * static_cast<double>(engine_() >> 40) * 0x1p-24;
      value = static_cast<double>(static_cast<float>(below(2) == 0 ? magnitude : -magnitude));
    }
    return all;
  }

 private:
  std::mt19937_64 engine_;
};

/// All arrays of one bound row on one backend, by the contract's letters.
struct LayerArrays {
  OwnedArray w, x, y, r, dy, dx, dw, Rw, Rx, Ry, Rr, Rdy, Rdx, Rdw, scratch;
  LayerArrays(Backend& on, const Stage& stage, const Geometry& g, Device device)
      : w(on, parameters(stage, g.input)),
        x(on, std::int64_t{g.examples} * g.input.size()),
        y(on, std::int64_t{g.examples} * output(stage, g.input).size()),
        r(on, record(stage, g)),
        dy(on, y.get().size),
        dx(on, x.get().size),
        dw(on, w.get().size),
        Rw(on, w.get().size),
        Rx(on, x.get().size),
        Ry(on, y.get().size),
        Rr(on, tangent_record(stage, g)),
        Rdy(on, y.get().size),
        Rdx(on, x.get().size),
        Rdw(on, w.get().size),
        scratch(on, cumeta::scratch(stage, g, device)) {}
  Values values() const { return {w.get(), x.get(), y.get(), r.get()}; }
  Values tangents() const { return {Rw.get(), Rx.get(), Ry.get(), Rr.get()}; }
  Gradients gradients() const { return {dy.get(), dx.get(), dw.get()}; }
  Gradients gradient_tangents() const { return {Rdy.get(), Rdx.get(), Rdw.get()}; }
};

struct Bench {
  Backend& device;
  Backend& reference;
  Device device_kind;
  std::vector<SelftestRow>& rows;

  void judge(const std::string& name, Pass pass, double error) const {
    const double allowed = judging::tolerance(pass, device.number());
    rows.push_back({"layer", fmt::format("{} {}", name, judging::name(pass)), error, allowed, error <= allowed});
  }
};

/// Takes what the reference has for each of these arrays over to the device.
void copy_over(LayerArrays& to, const LayerArrays& from, std::initializer_list<OwnedArray LayerArrays::*> which) {
  for (const auto array : which) (to.*array).put((from.*array).numbers());
}

void test_layer(const Bench& bench, const std::string& name, const Stage& stage, const Geometry& geometry, Draw& draw) {
  LayerArrays a(bench.reference, stage, geometry, Device::reference),
      b(bench.device, stage, geometry, bench.device_kind);
  using L = LayerArrays;
  const std::initializer_list<OwnedArray L::*> inputs = {&L::w, &L::x, &L::dy, &L::Rw, &L::Rx, &L::Rdy};
  for (const auto input : inputs) (a.*input).put(draw.numbers((a.*input).get().size));
  copy_over(b, a, inputs);
  const auto expected = bench.reference.lane(0).bind(stage, geometry, a.scratch.get());
  const auto actual = bench.device.lane(0).bind(stage, geometry, b.scratch.get());
  const auto worst = [&](std::initializer_list<OwnedArray L::*> which) {
    double error = 0;
    for (const auto array : which) error = std::max(error, error_of((b.*array).numbers(), (a.*array).numbers()));
    return error;
  };
  expected->forward(a.values());
  actual->forward(b.values());
  bench.judge(name, Pass::forward, worst({&L::y, &L::r}));
  copy_over(b, a, {&L::y, &L::r});
  expected->backward(a.values(), a.gradients());
  actual->backward(b.values(), b.gradients());
  bench.judge(name, Pass::backward, worst({&L::dx, &L::dw}));
  copy_over(b, a, {&L::dx});
  expected->tangent_forward(a.values(), a.tangents());
  actual->tangent_forward(b.values(), b.tangents());
  bench.judge(name, Pass::tangent_forward, worst({&L::Ry, &L::Rr}));
  copy_over(b, a, {&L::Ry, &L::Rr});
  expected->tangent_backward(a.values(), a.gradients(), a.tangents(), a.gradient_tangents());
  actual->tangent_backward(b.values(), b.gradients(), b.tangents(), b.gradient_tangents());
  bench.judge(name, Pass::tangent_backward, worst({&L::Rdx, &L::Rdw}));
}

struct LossArrays {
  OwnedArray x, t, Rx, loss, hits, dx, Rdx;
  LossArrays(Backend& on, std::int64_t size, std::int64_t targets)
      : x(on, size), t(on, targets), Rx(on, size), loss(on, 1), hits(on, 1), dx(on, size), Rdx(on, size) {}
};

void test_loss(const Bench& bench, const std::string& name, const Loss& loss, const LossGeometry& g, Draw& draw) {
  const bool labels = is_classification(loss);
  const std::int64_t size = std::int64_t{g.examples} * g.outputs;
  const std::int64_t targets = labels ? g.examples : size;
  LossArrays a(bench.reference, size, targets), b(bench.device, size, targets);
  const std::vector<double> x = draw.numbers(size), Rx = draw.numbers(size);
  std::vector<double> t = draw.numbers(targets);
  if (labels)
    for (double& label : t) label = draw.below(g.outputs);
  for (LossArrays* arrays : {&a, &b}) arrays->x.put(x), arrays->Rx.put(Rx), arrays->t.put(t);
  const auto run = [&](Backend& backend, LossArrays& arrays) {
    const auto passes = backend.lane(0).bind(loss, g);
    passes->forward_backward(arrays.x.get(), arrays.t.get(), arrays.loss.get(), arrays.hits.get(), arrays.dx.get());
    passes->tangent_backward(arrays.x.get(), arrays.t.get(), arrays.Rx.get(), arrays.Rdx.get());
  };
  run(bench.reference, a);
  run(bench.device, b);
  bench.judge(name, Pass::loss,
              std::max({error_of(b.loss.numbers(), a.loss.numbers()), error_of(b.hits.numbers(), a.hits.numbers()),
                        error_of(b.dx.numbers(), a.dx.numbers())}));
  bench.judge(name, Pass::loss_tangent, error_of(b.Rdx.numbers(), a.Rdx.numbers()));
}

std::string sizes(const Geometry& g) {
  return fmt::format("{} of {}x{}x{}", g.examples, g.input.height, g.input.width, g.input.channels);
}

}  // namespace

void test_layers(Backend& device, std::uint64_t seed, std::vector<SelftestRow>& rows) {
  const std::unique_ptr<Backend> reference = open_reference();
  const std::string name = device.name();
  const Device kind = name.rfind("cuda", 0) == 0  ? Device::cuda
                      : name.rfind("cpu", 0) == 0 ? Device::cpu
                                                  : Device::reference;
  const Bench bench{device, *reference, kind, rows};
  Draw draw(seed);
  const auto layer = [&](const char* what, const Stage& stage, Shape input, int support_rows_of = 1) {
    const int examples = draw.from(2, 9);
    const Geometry geometry{input, examples, support_rows_of == 1 ? examples : (examples + 1) / support_rows_of};
    test_layer(bench, fmt::format("{} {}", what, sizes(geometry)), stage, geometry, draw);
  };
  const auto picture = [&](int channels = 1) {
    return image(draw.from(6, 15), draw.from(6, 15), draw.from(channels, channels + 8));
  };
  // The sums of one channel alone may cancel to nearly nothing, and errors are judged by an array's largest number.
  constexpr int channels_of_a_norm = 4;
  for (int repeat = 0; repeat < 2; ++repeat) {
    layer("linear", Linear{.outputs = draw.from(1, 40), .bias = draw.below(2) == 0}, features(draw.from(1, 40)));
    layer("conv2d",
          Conv2d{.filters = draw.from(1, 20),
                 .kernel = draw.from(1, 5),
                 .stride = draw.from(1, 3),
                 .padding = draw.below(3),
                 .bias = draw.below(2) == 0},
          picture());
    layer("batch_norm", BatchNorm{.scale = repeat == 0, .shift = repeat == 0 || draw.below(2) == 0},
          picture(channels_of_a_norm));
    layer("batch_norm, support rows", BatchNorm{}, picture(channels_of_a_norm), 2);
    layer("relu", Relu{}, picture());
    layer("leaky_relu", LeakyRelu{.slope = 0.1}, picture());
    layer("tanh", Tanh{}, picture());
    layer("max_pool2d", MaxPool2d{.kernel = draw.from(2, 3), .stride = draw.from(1, 3)}, picture());
    layer("global_average_pool", GlobalAveragePool{}, picture());
    layer(repeat == 0 ? "conv_block" : "conv_block, pooled",
          ConvBlock{.convolution =
                        {.filters = draw.from(channels_of_a_norm, 20), .kernel = 3, .stride = 2 - repeat, .padding = 1},
                    .norm = {},
                    .pooled = repeat == 1,
                    .pool = {}},
          picture());
    layer("pooled_linear", PooledLinear{{.outputs = draw.from(1, 40), .bias = draw.below(2) == 0}}, picture());
    const int outputs = draw.from(2, 20), examples = draw.from(2, 30);
    const std::string size = fmt::format(" {} of {}", examples, outputs);
    test_loss(bench, fmt::format("softmax_cross_entropy{}", size), SoftmaxCrossEntropy{},
              {outputs, examples, repeat, 1.0}, draw);
    test_loss(bench, fmt::format("mean_squared_error{}", size), MeanSquaredError{}, {outputs, examples, repeat, 1.0},
              draw);
  }
}

}  // namespace cumeta
