// SPDX-License-Identifier: Apache-2.0
// Max-pool on the CPU: vectors of channels; the winner's index goes into the record as a number.
#include "kernels/layers/max_pool2d.h"
#include "kernels/tools/elementwise_cpu.h"
#include "kernels/tools/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/layers/max_pool2d_cpu.cpp"
#include "hwy/foreach_target.h"
//
#include "hwy/highway.h"
#include "kernels/tools/simd_tail_cpu-inl.h"

#ifndef CUMETA_MAX_POOL2D_CPU_ONCE
#define CUMETA_MAX_POOL2D_CPU_ONCE
namespace cumeta {
/// One window: kernel x kernel pixels, `row` numbers from one row of the image to the next.
struct PoolWindow {
  int kernel;
  std::int64_t row, channels;
};
}  // namespace cumeta
#endif

HWY_BEFORE_NAMESPACE();
namespace cumeta {
namespace HWY_NAMESPACE {

using V = FloatVector;

/// Calls f(channel, lanes, mask) for every vector of channels.
template <class F>
HWY_INLINE void for_each_vector(std::int64_t channels, F f) {
  for (std::int64_t c = 0; c < channels; c += kLanes) {
    const int count = static_cast<int>(HWY_MIN(static_cast<std::int64_t>(kLanes), channels - c));
    f(c, count, hn::FirstN(FloatTag(), static_cast<std::size_t>(count)));
  }
}

// y and its winners from one window of x; a tie keeps the first.
void pool_window(const PoolWindow& window, const float* x, float* y, float* winner) {
  const FloatTag d;
  for_each_vector(window.channels, [&](std::int64_t c, int count, FloatMask mask) HWY_ATTR {
    V best = load_first(count, mask, x + c);
    V index = hn::Zero(d);
    for (int k = 1; k < window.kernel * window.kernel; ++k) {
      const float* from = x + (k / window.kernel) * window.row + (k % window.kernel) * window.channels + c;
      const V v = load_first(count, mask, from);
      const auto larger = hn::Gt(v, best);
      best = hn::IfThenElse(larger, v, best);
      index = hn::IfThenElse(larger, hn::Set(d, static_cast<float>(k)), index);
    }
    store_first(best, count, mask, y + c);
    store_first(index, count, mask, winner + c);
  });
}

// out[c] = in[winner's pixel][c]
void gather_window(const PoolWindow& window, const float* in, const float* winner, float* out) {
  const FloatTag d;
  for_each_vector(window.channels, [&](std::int64_t c, int count, FloatMask mask) HWY_ATTR {
    const V index = load_first(count, mask, winner + c);
    V value = hn::Zero(d);
    for (int k = 0; k < window.kernel * window.kernel; ++k) {
      const float* from = in + (k / window.kernel) * window.row + (k % window.kernel) * window.channels + c;
      value = hn::IfThenElse(hn::Eq(index, hn::Set(d, static_cast<float>(k))), load_first(count, mask, from), value);
    }
    store_first(value, count, mask, out + c);
  });
}

// out[winner's pixel][c] += in[c]
void scatter_window(const PoolWindow& window, const float* in, const float* winner, float* out) {
  const FloatTag d;
  for_each_vector(window.channels, [&](std::int64_t c, int count, FloatMask mask) HWY_ATTR {
    const V index = load_first(count, mask, winner + c);
    const V value = load_first(count, mask, in + c);
    for (int k = 0; k < window.kernel * window.kernel; ++k) {
      float* to = out + (k / window.kernel) * window.row + (k % window.kernel) * window.channels + c;
      const auto here = hn::Eq(index, hn::Set(d, static_cast<float>(k)));
      store_first(hn::Add(load_first(count, mask, to), hn::IfThenElseZero(here, value)), count, mask, to);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cumeta
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cumeta {
HWY_EXPORT(pool_window);
HWY_EXPORT(gather_window);
HWY_EXPORT(scatter_window);
namespace {

class MaxPoolCpu final : public LayerPasses {
 public:
  MaxPoolCpu(const MaxPool2d& layer, const Geometry& geometry)
      : layer_(layer), in_(geometry.input), out_(output(layer, geometry.input)), examples_(geometry.examples) {}

  void forward(const Values& v) const override {
    const auto pool = HWY_DYNAMIC_DISPATCH(pool_window);
    for (int task = 0; task < v.y.tasks; ++task) {
      const float* x = v.x.row<float>(task);
      float* y = v.y.row<float>(task);
      float* winner = v.r.row<float>(task);
      for_each_window([&](std::int64_t from, std::int64_t to) { pool(window(), x + from, y + to, winner + to); });
    }
  }
  void backward(const Values& v, const Gradients& d) const override {
    if (d.x) scatter(v, d.y, d.x);
  }
  void tangent_forward(const Values& v, const Values& R) const override {
    const auto gather = HWY_DYNAMIC_DISPATCH(gather_window);
    for (int task = 0; task < v.y.tasks; ++task) {
      float* Ry = R.y.row<float>(task);
      if (!R.x) {
        cpu::fill(Ry, 0.0f, std::int64_t{examples_} * out_.size());
        continue;
      }
      const float* Rx = R.x.row<float>(task);
      const float* winner = v.r.row<float>(task);
      for_each_window([&](std::int64_t from, std::int64_t to) { gather(window(), Rx + from, winner + to, Ry + to); });
    }
  }
  void tangent_backward(const Values& v, const Gradients&, const Values&, const Gradients& Rd) const override {
    if (Rd.x) scatter(v, Rd.y, Rd.x);
  }

 private:
  PoolWindow window() const { return {layer_.kernel, std::int64_t{in_.width} * in_.channels, in_.channels}; }

  /// Calls f(offset of the window in x, offset of its pixel in y).
  template <class F>
  void for_each_window(F&& f) const {
    std::int64_t to = 0;
    for (std::int64_t i = 0; i < examples_; ++i) {
      for (std::int64_t row = 0; row < out_.height; ++row) {
        for (std::int64_t column = 0; column < out_.width; ++column, to += in_.channels) {
          f(((i * in_.height + row * layer_.stride) * in_.width + column * layer_.stride) * in_.channels, to);
        }
      }
    }
  }
  void scatter(const Values& v, const Array& in, const Array& out) const {
    const auto add_back = HWY_DYNAMIC_DISPATCH(scatter_window);
    for (int task = 0; task < v.y.tasks; ++task) {
      const float* dy = in.row<float>(task);
      const float* winner = v.r.row<float>(task);
      float* dx = out.row<float>(task);
      cpu::fill(dx, 0.0f, std::int64_t{examples_} * in_.size());
      for_each_window([&](std::int64_t from, std::int64_t to) { add_back(window(), dy + to, winner + to, dx + from); });
    }
  }

  MaxPool2d layer_;
  Shape in_, out_;
  int examples_;
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const MaxPool2d& layer, const Geometry& geometry, Array, CpuLane&) {
  return std::make_unique<MaxPoolCpu>(layer, geometry);
}

}  // namespace cumeta
#endif
