// SPDX-License-Identifier: Apache-2.0
// Batch norm on the CPU: vectors of channels, pixels innermost. Every gradient is affine in what it reads, with factors
// per channel: dx = c0 + cx xh + cd dy, Rdx = c0 + cx xh + cR Rxh + cd dy + cr Rdy, so a pass is one sweep for the sums
// and one to apply them. Sums go by blocks of rows, so that no chain of additions is long, blocks in ascending order.
#include "kernels/layers/batch_norm.h"
#include "kernels/tools/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/layers/batch_norm_cpu.cpp"
#include "hwy/foreach_target.h"
//
#include "hwy/highway.h"
#include "kernels/tools/channel_groups_cpu-inl.h"

#ifndef CUMETA_BATCH_NORM_CPU_ONCE
#define CUMETA_BATCH_NORM_CPU_ONCE
namespace cumeta {
/// One task's arrays; null where not there. `rows` pixels in all, the first `counted` of them give the statistics.
struct BatchNormTask {
  std::int64_t channels, rows, counted;
  float eps;
  const float *gamma, *beta, *x, *dy;
  float *y, *r;
  const float *Rgamma, *Rbeta, *Rx, *Rdy;
  float *Ry, *Rr;
  float *dx, *dgamma, *dbeta;  // or their tangents
};
}  // namespace cumeta
#endif

HWY_BEFORE_NAMESPACE();
namespace cumeta {
namespace HWY_NAMESPACE {

using V = FloatVector;
using Size = std::int64_t;

template <int kVectors>
HWY_INLINE void forward_channels(const BatchNormTask& t, Channels<kVectors> c) {
  const FloatTag d;
  V mean[kVectors], s[kVectors];
  if (t.counted > 0) {
    const V inverse = hn::Set(d, 1.0f / static_cast<float>(t.counted));
    V rest[kVectors];
    CUMETA_EACH mean[j] = hn::Zero(d);
    for_each_block(t.counted, [&](Size first, Size last) HWY_ATTR {
      V part[kVectors];
      CUMETA_EACH part[j] = hn::Zero(d);
      for (Size row = first; row < last; ++row) {
        CUMETA_EACH part[j] = hn::Add(part[j], c.load(t.x + row * t.channels, j));
      }
      CUMETA_EACH mean[j] = hn::Add(mean[j], part[j]);
    });
    CUMETA_EACH mean[j] = hn::Mul(mean[j], inverse);
    CUMETA_EACH s[j] = rest[j] = hn::Zero(d);
    for_each_block(t.counted, [&](Size first, Size last) HWY_ATTR {
      V part[kVectors], squares[kVectors];
      CUMETA_EACH part[j] = squares[j] = hn::Zero(d);
      for (Size row = first; row < last; ++row) {
        CUMETA_EACH {
          const V deviation = hn::Sub(c.load(t.x + row * t.channels, j), mean[j]);
          part[j] = hn::Add(part[j], deviation);
          squares[j] = hn::MulAdd(deviation, deviation, squares[j]);
        }
      }
      CUMETA_EACH {
        rest[j] = hn::Add(rest[j], part[j]);
        s[j] = hn::Add(s[j], squares[j]);
      }
    });
    const V eps = hn::Set(d, t.eps);
    CUMETA_EACH {
      // What the first sweep left of the mean, which is much where the mean is far beyond the deviation.
      rest[j] = hn::Mul(rest[j], inverse);
      mean[j] = hn::Add(mean[j], rest[j]);
      const V variance = hn::NegMulAdd(rest[j], rest[j], hn::Mul(s[j], inverse));
      s[j] = hn::Div(hn::Set(d, 1.0f), hn::Sqrt(hn::Add(variance, eps)));
      c.store(mean[j], t.r, j);
      c.store(s[j], t.r + t.channels, j);
    }
  } else {
    CUMETA_EACH {
      mean[j] = c.load(t.r, j);
      s[j] = c.load(t.r + t.channels, j);
    }
  }
  V shift[kVectors];
  CUMETA_EACH {
    s[j] = hn::Mul(s[j], c.load_or(t.gamma, j, 1.0f));
    shift[j] = c.load_or(t.beta, j, 0.0f);
  }
  for (Size row = 0; row < t.rows; ++row) {
    CUMETA_EACH {
      c.store(hn::MulAdd(hn::Sub(c.load(t.x + row * t.channels, j), mean[j]), s[j], shift[j]), t.y + row * t.channels,
              j);
    }
  }
}

// a = sum dy, b = sum dy xh over all rows.
template <int kVectors>
HWY_INLINE void gradient_sums(const BatchNormTask& t, Channels<kVectors> c, const V* mean, const V* s, V* a, V* b) {
  const V zero = hn::Zero(FloatTag());
  CUMETA_EACH a[j] = b[j] = zero;
  for_each_block(t.rows, [&](Size first, Size last) HWY_ATTR {
    V part_a[kVectors], part_b[kVectors];
    CUMETA_EACH part_a[j] = part_b[j] = zero;
    for (Size row = first; row < last; ++row) {
      CUMETA_EACH {
        const V dy = c.load(t.dy + row * t.channels, j);
        part_a[j] = hn::Add(part_a[j], dy);
        part_b[j] = hn::MulAdd(dy, hn::Sub(c.load(t.x + row * t.channels, j), mean[j]), part_b[j]);
      }
    }
    CUMETA_EACH {
      a[j] = hn::Add(a[j], part_a[j]);
      b[j] = hn::Add(b[j], part_b[j]);
    }
  });
  CUMETA_EACH b[j] = hn::Mul(b[j], s[j]);
}

template <int kVectors>
HWY_INLINE void backward_channels(const BatchNormTask& t, Channels<kVectors> c) {
  const FloatTag d;
  V mean[kVectors], s[kVectors], a[kVectors], b[kVectors];
  CUMETA_EACH {
    mean[j] = c.load(t.r, j);
    s[j] = c.load(t.r + t.channels, j);
  }
  gradient_sums<kVectors>(t, c, mean, s, a, b);
  CUMETA_EACH {
    if (t.dgamma) c.store(b[j], t.dgamma, j);
    if (t.dbeta) c.store(a[j], t.dbeta, j);
  }
  if (!t.dx) return;
  const V inverse = hn::Set(d, t.counted > 0 ? -1.0f / static_cast<float>(t.counted) : 0.0f);
  V cd[kVectors];
  CUMETA_EACH {
    cd[j] = hn::Mul(s[j], c.load_or(t.gamma, j, 1.0f));
    a[j] = hn::Mul(hn::Mul(cd[j], a[j]), inverse);                 // c0
    b[j] = hn::Mul(hn::Mul(hn::Mul(cd[j], b[j]), inverse), s[j]);  // cx, times s: xh = s (x - mean)
  }
  for (Size row = 0; row < t.counted; ++row) {
    CUMETA_EACH {
      const V centred = hn::Sub(c.load(t.x + row * t.channels, j), mean[j]);
      const V dx = hn::MulAdd(cd[j], c.load(t.dy + row * t.channels, j), hn::MulAdd(b[j], centred, a[j]));
      c.store(dx, t.dx + row * t.channels, j);
    }
  }
  for (Size row = t.counted; row < t.rows; ++row) {
    CUMETA_EACH c.store(hn::Mul(cd[j], c.load(t.dy + row * t.channels, j)), t.dx + row * t.channels, j);
  }
}

template <int kVectors>
HWY_INLINE void tangent_forward_channels(const BatchNormTask& t, Channels<kVectors> c) {
  const FloatTag d;
  V mean[kVectors], s[kVectors], m1[kVectors], m2[kVectors];
  CUMETA_EACH {
    mean[j] = c.load(t.r, j);
    s[j] = c.load(t.r + t.channels, j);
    m1[j] = m2[j] = hn::Zero(d);
  }
  if (t.counted > 0 && t.Rx) {
    for_each_block(t.counted, [&](Size first, Size last) HWY_ATTR {
      V part1[kVectors], part2[kVectors];
      CUMETA_EACH part1[j] = part2[j] = hn::Zero(d);
      for (Size row = first; row < last; ++row) {
        CUMETA_EACH {
          const V Rx = c.load(t.Rx + row * t.channels, j);
          part1[j] = hn::Add(part1[j], Rx);
          part2[j] = hn::MulAdd(Rx, hn::Sub(c.load(t.x + row * t.channels, j), mean[j]), part2[j]);
        }
      }
      CUMETA_EACH {
        m1[j] = hn::Add(m1[j], part1[j]);
        m2[j] = hn::Add(m2[j], part2[j]);
      }
    });
    const V inverse = hn::Set(d, 1.0f / static_cast<float>(t.counted));
    CUMETA_EACH {
      m1[j] = hn::Mul(m1[j], inverse);
      m2[j] = hn::Mul(hn::Mul(m2[j], inverse), s[j]);
    }
  }
  if (t.Rr) {
    CUMETA_EACH {
      c.store(m1[j], t.Rr, j);
      c.store(m2[j], t.Rr + t.channels, j);
    }
  }
  // Ry = gamma s (Rx - m1) + (Rgamma - gamma s m2) xh + Rbeta
  V on_Rx[kVectors], on_x[kVectors], shift[kVectors];
  CUMETA_EACH {
    on_Rx[j] = hn::Mul(s[j], c.load_or(t.gamma, j, 1.0f));
    on_x[j] = hn::Mul(s[j], hn::NegMulAdd(on_Rx[j], m2[j], c.load_or(t.Rgamma, j, 0.0f)));
    shift[j] = c.load_or(t.Rbeta, j, 0.0f);
  }
  for (Size row = 0; row < t.rows; ++row) {
    CUMETA_EACH {
      V Ry = hn::MulAdd(on_x[j], hn::Sub(c.load(t.x + row * t.channels, j), mean[j]), shift[j]);
      if (t.Rx) Ry = hn::MulAdd(on_Rx[j], hn::Sub(c.load(t.Rx + row * t.channels, j), m1[j]), Ry);
      c.store(Ry, t.Ry + row * t.channels, j);
    }
  }
}

// kTangent: Rx is there. m1 and m2 are the record's tangents.
template <int kVectors, bool kTangent>
HWY_INLINE void tangent_backward_channels(const BatchNormTask& t, Channels<kVectors> c) {
  const FloatTag d;
  const V zero = hn::Zero(d);
  V mean[kVectors], s[kVectors], m1[kVectors], m2[kVectors];
  V a[kVectors], b[kVectors], Ra[kVectors], Rb[kVectors];
  CUMETA_EACH {
    mean[j] = c.load(t.r, j);
    s[j] = c.load(t.r + t.channels, j);
    m1[j] = kTangent ? c.load(t.Rr, j) : zero;
    m2[j] = kTangent ? c.load(t.Rr + t.channels, j) : zero;
    a[j] = b[j] = Ra[j] = Rb[j] = zero;
  }
  for_each_block(t.rows, [&](Size first, Size last) HWY_ATTR {
    V part_a[kVectors], part_b[kVectors], part_Ra[kVectors], part_Rb[kVectors];
    CUMETA_EACH part_a[j] = part_b[j] = part_Ra[j] = part_Rb[j] = zero;
    for (Size row = first; row < last; ++row) {
      const Size at = row * t.channels;
      CUMETA_EACH {
        const V xh = hn::Mul(s[j], hn::Sub(c.load(t.x + at, j), mean[j]));
        const V dy = c.load(t.dy + at, j);
        const V Rdy = c.load(t.Rdy + at, j);
        part_a[j] = hn::Add(part_a[j], dy);
        part_b[j] = hn::MulAdd(dy, xh, part_b[j]);
        part_Ra[j] = hn::Add(part_Ra[j], Rdy);
        part_Rb[j] = hn::MulAdd(Rdy, xh, part_Rb[j]);
        if (kTangent) {
          const V Rxh = hn::Mul(s[j], hn::NegMulAdd(xh, m2[j], hn::Sub(c.load(t.Rx + at, j), m1[j])));
          part_Rb[j] = hn::MulAdd(dy, Rxh, part_Rb[j]);
        }
      }
    }
    CUMETA_EACH {
      a[j] = hn::Add(a[j], part_a[j]);
      b[j] = hn::Add(b[j], part_b[j]);
      Ra[j] = hn::Add(Ra[j], part_Ra[j]);
      Rb[j] = hn::Add(Rb[j], part_Rb[j]);
    }
  });
  CUMETA_EACH {
    if (t.dgamma) c.store(Rb[j], t.dgamma, j);
    if (t.dbeta) c.store(Ra[j], t.dbeta, j);
  }
  if (!t.dx) return;
  const V inverse = hn::Set(d, t.counted > 0 ? 1.0f / static_cast<float>(t.counted) : 0.0f);
  V cd[kVectors], cr[kVectors], c0[kVectors], cx[kVectors], cR[kVectors];
  CUMETA_EACH {
    const V gamma = c.load_or(t.gamma, j, 1.0f);
    const V Rgamma = c.load_or(t.Rgamma, j, 0.0f);
    cr[j] = hn::Mul(s[j], gamma);
    const V bent = hn::Mul(cr[j], m2[j]);  // from -s m2 dx, dx = cr (dy - (a + xh b) / n)
    cd[j] = hn::Mul(s[j], hn::Sub(Rgamma, bent));
    c0[j] = hn::Mul(inverse, hn::Mul(s[j], hn::NegMulAdd(hn::Sub(Rgamma, bent), a[j], hn::Neg(hn::Mul(gamma, Ra[j])))));
    cx[j] = hn::Mul(inverse, hn::Mul(s[j], hn::NegMulAdd(hn::Sub(Rgamma, bent), b[j], hn::Neg(hn::Mul(gamma, Rb[j])))));
    cR[j] = hn::Neg(hn::Mul(inverse, hn::Mul(cr[j], b[j])));
  }
  for (Size row = 0; row < t.rows; ++row) {
    const Size at = row * t.channels;
    CUMETA_EACH {
      V Rdx = hn::MulAdd(cr[j], c.load(t.Rdy + at, j), hn::Mul(cd[j], c.load(t.dy + at, j)));
      if (row < t.counted) {
        const V xh = hn::Mul(s[j], hn::Sub(c.load(t.x + at, j), mean[j]));
        Rdx = hn::Add(Rdx, hn::MulAdd(cx[j], xh, c0[j]));
        if (kTangent) {
          const V Rxh = hn::Mul(s[j], hn::NegMulAdd(xh, m2[j], hn::Sub(c.load(t.Rx + at, j), m1[j])));
          Rdx = hn::MulAdd(cR[j], Rxh, Rdx);
        }
      }
      c.store(Rdx, t.dx + at, j);
    }
  }
}

void batch_norm_forward(const BatchNormTask& t) {
  for_each_group<4>(t.channels, [&](auto channels) HWY_ATTR { forward_channels(t, channels); });
}
void batch_norm_backward(const BatchNormTask& t) {
  for_each_group<4>(t.channels, [&](auto channels) HWY_ATTR { backward_channels(t, channels); });
}
void batch_norm_tangent_forward(const BatchNormTask& t) {
  for_each_group<2>(t.channels, [&](auto channels) HWY_ATTR { tangent_forward_channels(t, channels); });
}
template <int kVectors>
HWY_INLINE void tangent_backward_group(const BatchNormTask& t, Channels<kVectors> channels) {
  if (t.Rx) {
    tangent_backward_channels<kVectors, true>(t, channels);
  } else {
    tangent_backward_channels<kVectors, false>(t, channels);
  }
}
void batch_norm_tangent_backward(const BatchNormTask& t) {
  for_each_group<2>(t.channels, [&](auto channels) HWY_ATTR { tangent_backward_group(t, channels); });
}

}  // namespace HWY_NAMESPACE
}  // namespace cumeta
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cumeta {
HWY_EXPORT(batch_norm_forward);
HWY_EXPORT(batch_norm_backward);
HWY_EXPORT(batch_norm_tangent_forward);
HWY_EXPORT(batch_norm_tangent_backward);
namespace {

class BatchNormCpu final : public LayerPasses {
 public:
  BatchNormCpu(const BatchNorm& layer, const Geometry& geometry)
      : layer_(layer),
        channels_(geometry.input.channels),
        rows_(pixels(geometry) * geometry.examples),
        counted_(pixels(geometry) * geometry.statistics_rows) {}

  void forward(const Values& v) const override {
    for (int task = 0; task < v.y.tasks; ++task) {
      BatchNormTask t = values(v, task);
      t.y = v.y.row<float>(task);
      HWY_DYNAMIC_DISPATCH(batch_norm_forward)(t);
    }
  }
  void backward(const Values& v, const Gradients& d) const override {
    for (int task = 0; task < v.y.tasks; ++task) {
      BatchNormTask t = values(v, task);
      t.dy = d.y.row<float>(task);
      outputs(t, d, task);
      HWY_DYNAMIC_DISPATCH(batch_norm_backward)(t);
    }
  }
  void tangent_forward(const Values& v, const Values& R) const override {
    for (int task = 0; task < v.y.tasks; ++task) {
      BatchNormTask t = values(v, task);
      tangents(t, R, task);
      t.Ry = R.y.row<float>(task);
      HWY_DYNAMIC_DISPATCH(batch_norm_tangent_forward)(t);
    }
  }
  /// The tape's dx is not read: it is affine in dy and xh, which are at hand.
  void tangent_backward(const Values& v, const Gradients& d, const Values& R, const Gradients& Rd) const override {
    for (int task = 0; task < v.y.tasks; ++task) {
      BatchNormTask t = values(v, task);
      tangents(t, R, task);
      t.dy = d.y.row<float>(task);
      t.Rdy = Rd.y.row<float>(task);
      outputs(t, Rd, task);
      HWY_DYNAMIC_DISPATCH(batch_norm_tangent_backward)(t);
    }
  }

 private:
  static std::int64_t pixels(const Geometry& g) { return std::int64_t{g.input.height} * g.input.width; }

  std::int64_t beta_at() const { return layer_.scale ? channels_ : 0; }
  BatchNormTask values(const Values& v, int task) const {
    BatchNormTask t{};
    t.channels = channels_;
    t.rows = rows_;
    t.counted = counted_;
    t.eps = static_cast<float>(layer_.eps);
    t.x = v.x.row<float>(task);
    t.r = v.r.row<float>(task);
    if (layer_.scale) t.gamma = v.w.row<float>(task);
    if (layer_.shift) t.beta = v.w.row<float>(task) + beta_at();
    return t;
  }
  void tangents(BatchNormTask& t, const Values& R, int task) const {
    if (R.w && layer_.scale) t.Rgamma = R.w.row<float>(task);
    if (R.w && layer_.shift) t.Rbeta = R.w.row<float>(task) + beta_at();
    if (R.x) t.Rx = R.x.row<float>(task);
    if (R.r) t.Rr = R.r.row<float>(task);
  }
  void outputs(BatchNormTask& t, const Gradients& d, int task) const {
    if (d.x) t.dx = d.x.row<float>(task);
    if (d.w && layer_.scale) t.dgamma = d.w.row<float>(task);
    if (d.w && layer_.shift) t.dbeta = d.w.row<float>(task) + beta_at();
  }

  BatchNorm layer_;
  std::int64_t channels_, rows_, counted_;
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const BatchNorm& layer, const Geometry& geometry, Array, CpuLane&) {
  return std::make_unique<BatchNormCpu>(layer, geometry);
}

}  // namespace cumeta
#endif
