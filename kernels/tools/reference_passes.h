// SPDX-License-Identifier: Apache-2.0
// The reference's four passes from one formula: on double it is the value, on dual numbers it is the R-op.
//
// A formula of a layer is a struct with templates over the number type S:
//   void record(w, x, r)                forms r; left alone where the record is given
//   void forward(w, x, r, y)            forms y
//   void backward(w, x, y, r, dy, dx, dw)   forms dx and dw, which come in as zeros
// A record that has a tangent (tangent_record > 0) is a differentiable number: the tangent passes form it again. One
// that has none is a choice of the value pass: they take it as a constant.
#pragma once
#include <cassert>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "kernels/layer.h"
#include "kernels/tools/dual.h"

namespace cumeta {

template <class S>
using In = std::span<const S>;
template <class S>
using Out = std::span<S>;

namespace reference_detail {

/// One task's row as numbers of type S; no array: no numbers.
inline std::vector<double> numbers(const Array& value, int task) {
  if (!value) return {};
  assert(value.number == Number::float64);
  const double* row = value.row<double>(task);
  return {row, row + value.size};
}
/// ... with its tangent, where an empty tangent is zero.
inline std::vector<Dual> numbers(const Array& value, const Array& tangent, int task) {
  assert(!value || !tangent || value.size == tangent.size);
  std::vector<Dual> out;
  if (!value) return out;
  const double* v = value.row<double>(task);
  const double* t = tangent ? tangent.row<double>(task) : nullptr;
  out.reserve(static_cast<std::size_t>(value.size));
  for (std::int64_t i = 0; i < value.size; ++i) out.emplace_back(v[i], t ? t[i] : 0.0);
  return out;
}
inline void store(const std::vector<double>& from, const Array& to, int task) {
  if (!to) return;
  assert(static_cast<std::int64_t>(from.size()) == to.size);
  for (std::size_t i = 0; i < from.size(); ++i) to.row<double>(task)[i] = from[i];
}
/// Only the tangent leaves a tangent pass.
inline void store(const std::vector<Dual>& from, const Array& to, int task) {
  if (!to) return;
  assert(static_cast<std::int64_t>(from.size()) == to.size);
  for (std::size_t i = 0; i < from.size(); ++i) to.row<double>(task)[i] = from[i].tangent;
}

}  // namespace reference_detail

/// What a layer is to its passes: sizes per task of everything it touches.
struct ReferenceSizes {
  std::int64_t x = 0, y = 0, w = 0, r = 0;
  bool record_has_tangent = false;
};

template <class Layer>
ReferenceSizes reference_sizes(const Layer& layer, const Geometry& g) {
  return {std::int64_t{g.examples} * g.input.size(), std::int64_t{g.examples} * output(layer, g.input).size(),
          parameters(layer, g.input), record(layer, g), tangent_record(layer, g) > 0};
}

/// The tangent of a record as the contract keeps it; a formula with other wishes has its own member tangent_record.
template <class Formula>
std::vector<Dual> kept_tangent(const Formula& formula, std::vector<Dual> r) {
  if constexpr (requires { formula.tangent_record(r); }) formula.tangent_record(r);
  return r;
}

template <class Formula>
class ReferencePasses final : public LayerPasses {
 public:
  ReferencePasses(Formula formula, ReferenceSizes sizes) : formula_(std::move(formula)), sizes_(sizes) {}

  void forward(const Values& v) const override {
    using namespace reference_detail;
    for (int task = 0; task < v.y.tasks; ++task) {
      const auto w = numbers(v.w, task), x = numbers(v.x, task);
      auto r = numbers(v.r, task);
      check(w.size(), x.size(), r.size());
      std::vector<double> y(static_cast<std::size_t>(sizes_.y));
      formula_.template record<double>(w, x, r);
      formula_.template forward<double>(w, x, r, y);
      store(y, v.y, task);
      store(r, v.r, task);
    }
  }

  void backward(const Values& v, const Gradients& d) const override {
    using namespace reference_detail;
    for (int task = 0; task < v.y.tasks; ++task) {
      const auto w = numbers(v.w, task), x = numbers(v.x, task), y = numbers(v.y, task), r = numbers(v.r, task),
                 dy = numbers(d.y, task);
      check(w.size(), x.size(), r.size());
      std::vector<double> dx(x.size()), dw(w.size());
      formula_.template backward<double>(w, x, y, r, dy, dx, dw);
      store(dx, d.x, task);
      store(dw, d.w, task);
    }
  }

  void tangent_forward(const Values& v, const Values& R) const override {
    using namespace reference_detail;
    for (int task = 0; task < v.y.tasks; ++task) {
      const auto w = numbers(v.w, R.w, task), x = numbers(v.x, R.x, task);
      const auto r = record_on(w, x, v, task);
      std::vector<Dual> y(static_cast<std::size_t>(sizes_.y));
      formula_.template forward<Dual>(w, x, r, y);
      store(y, R.y, task);
      if (sizes_.record_has_tangent) store(kept_tangent(formula_, r), R.r, task);
    }
  }

  void tangent_backward(const Values& v, const Gradients& d, const Values& R, const Gradients& Rd) const override {
    using namespace reference_detail;
    for (int task = 0; task < v.y.tasks; ++task) {
      const auto w = numbers(v.w, R.w, task), x = numbers(v.x, R.x, task), y = numbers(v.y, R.y, task),
                 dy = numbers(d.y, Rd.y, task);
      const auto r = record_on(w, x, v, task);
      std::vector<Dual> dx(x.size()), dw(w.size());
      formula_.template backward<Dual>(w, x, y, r, dy, dx, dw);
      store(dx, Rd.x, task);
      store(dw, Rd.w, task);
    }
  }

 private:
  std::vector<Dual> record_on(const std::vector<Dual>& w, const std::vector<Dual>& x, const Values& v, int task) const {
    auto r = reference_detail::numbers(v.r, Array{}, task);
    check(w.size(), x.size(), r.size());
    if (sizes_.record_has_tangent) formula_.template record<Dual>(w, x, r);
    return r;
  }
  void check([[maybe_unused]] std::size_t w, [[maybe_unused]] std::size_t x, [[maybe_unused]] std::size_t r) const {
    assert(static_cast<std::int64_t>(w) == sizes_.w && static_cast<std::int64_t>(x) == sizes_.x &&
           static_cast<std::int64_t>(r) == sizes_.r);
  }

  Formula formula_;
  ReferenceSizes sizes_;
};

template <class Formula, class Layer>
std::unique_ptr<LayerPasses> reference_passes(Formula formula, const Layer& layer, const Geometry& geometry) {
  return std::make_unique<ReferencePasses<Formula>>(std::move(formula), reference_sizes(layer, geometry));
}

/// A layer without parameters and record that works on every number by itself: the formula has
///   S value(S x)   and   S gradient(S x, S y, S dy).
template <class Pointwise>
struct PointwiseFormula {
  Pointwise f;
  template <class S>
  void record(In<S>, In<S>, Out<S>) const {}
  template <class S>
  void forward(In<S>, In<S> x, In<S>, Out<S> y) const {
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = f.value(x[i]);
  }
  template <class S>
  void backward(In<S>, In<S> x, In<S> y, In<S>, In<S> dy, Out<S> dx, Out<S>) const {
    for (std::size_t i = 0; i < x.size(); ++i) dx[i] = f.gradient(x[i], y[i], dy[i]);
  }
};

/// A loss from its formula, with the templates
///   S loss(row of x, row of t)          of one example
///   void gradient(row of x, row of t, row of dx)   of that loss
/// and `double hit(row of x, row of t)`. `targets` numbers of t belong to an example.
template <class Formula>
class ReferenceLoss final : public LossPasses {
 public:
  ReferenceLoss(Formula formula, const LossGeometry& geometry, int targets)
      : formula_(std::move(formula)), g_(geometry), targets_(targets) {}

  void forward_backward(Array x, Array t, Array loss, Array hits, Array dx) const override {
    using namespace reference_detail;
    for (int task = 0; task < loss.tasks; ++task) {
      const auto xs = numbers(x, task), ts = numbers(t, task);
      double sum = 0, hit = 0;
      for (int e = g_.first_row; e < g_.examples; ++e) {
        sum += formula_.template loss<double>(row<double>(xs, e), target(ts, e));
        hit += formula_.hit(row<double>(xs, e), target(ts, e));
      }
      store(std::vector<double>{sum / (g_.examples - g_.first_row)}, loss, task);
      store(std::vector<double>{hit}, hits, task);
      store(gradient<double>(xs, ts), dx, task);
    }
  }

  void tangent_backward(Array x, Array t, Array Rx, Array Rdx) const override {
    using namespace reference_detail;
    for (int task = 0; task < Rdx.tasks; ++task)
      store(gradient<Dual>(numbers(x, Rx, task), numbers(t, task)), Rdx, task);
  }

 private:
  template <class S>
  std::vector<S> gradient(const std::vector<S>& x, const std::vector<double>& t) const {
    std::vector<S> dx(x.size());
    const double weight = g_.factor / (g_.examples - g_.first_row);
    const auto outputs = static_cast<std::size_t>(g_.outputs);
    for (int e = g_.first_row; e < g_.examples; ++e) {
      const Out<S> to = Out<S>(dx).subspan(static_cast<std::size_t>(e) * outputs, outputs);
      formula_.template gradient<S>(row<S>(x, e), target(t, e), to);
      for (S& number : to) number = weight * number;
    }
    return dx;
  }
  template <class S>
  In<S> row(const std::vector<S>& x, int e) const {
    return In<S>(x).subspan(static_cast<std::size_t>(e) * static_cast<std::size_t>(g_.outputs),
                            static_cast<std::size_t>(g_.outputs));
  }
  In<double> target(const std::vector<double>& t, int e) const {
    return In<double>(t).subspan(static_cast<std::size_t>(e) * static_cast<std::size_t>(targets_),
                                 static_cast<std::size_t>(targets_));
  }

  Formula formula_;
  LossGeometry g_;
  int targets_;
};

}  // namespace cumeta
