// SPDX-License-Identifier: Apache-2.0
// Global average pool + linear composed of a column's own layers, for the columns that have no kernel of their own for
// it:  x -> global average pool -> h -> linear -> y,  with h in the record and its gradient in scratch.
#pragma once
#include "kernels/layers/pooled_linear.h"

namespace cumeta {

template <class LaneOfDevice>
class ComposedPooledLinear final : public LayerPasses {
 public:
  ComposedPooledLinear(const PooledLinear& l, const Geometry& g, Array scratch, LaneOfDevice& lane)
      : gradient_room_(scratch.slice(0, record(l, g))),
        pool_(bind(GlobalAveragePool{}, g, Array{}, lane)),
        linear_(bind(l.linear, inner_geometry(l, g), scratch.slice(record(l, g), scratch.size - record(l, g)), lane)) {}

  void forward(const Values& v) const override {
    pool_->forward(pool(v));
    linear_->forward(linear(v));
  }
  void backward(const Values& v, const Gradients& d) const override {
    const Array dh = room(v, d.x);
    linear_->backward(linear(v), {d.y, dh, d.w});
    if (d.x) pool_->backward(pool(v), {dh, d.x, {}});
  }
  void tangent_forward(const Values& v, const Values& R) const override {
    pool_->tangent_forward(pool(v), pool(R));
    linear_->tangent_forward(linear(v), linear(R));
  }
  void tangent_backward(const Values& v, const Gradients& d, const Values& R, const Gradients& Rd) const override {
    const Array Rdh = room(v, Rd.x);
    linear_->tangent_backward(linear(v), {d.y, {}, {}}, linear(R), {Rd.y, Rdh, Rd.w});
    // Linear in the gradient, the pool looks at no value of it: any array of its size will do.
    if (Rd.x) pool_->tangent_backward(pool(v), {Rdh, {}, {}}, pool(R), {Rdh, Rd.x, {}});
  }

 private:
  static Values pool(const Values& v) { return {{}, v.x, rows_of(v.r, v), {}}; }
  static Values linear(const Values& v) { return {v.w, rows_of(v.r, v), v.y, {}}; }
  static Array rows_of(const Array& a, const Values& v) { return a.rows(0, v.y.tasks); }
  /// Where the gradient of h goes, if anybody below wants one.
  Array room(const Values& v, const Array& dx) const { return dx ? rows_of(gradient_room_, v) : Array{}; }

  Array gradient_room_;
  std::unique_ptr<LayerPasses> pool_, linear_;
};

}  // namespace cumeta
