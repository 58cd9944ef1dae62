// SPDX-License-Identifier: Apache-2.0
// A fused block composed of a column's own layers, for the columns that have no kernel of their own for it:
//   x -> convolution -> z -> batch norm -> a -> ReLU -> h (-> max-pool) -> y,
// with z, the statistics and the winners in the record and everything else formed again in scratch.
#pragma once
#include "kernels/layers/conv_block.h"
#include "kernels/layers/relu.h"

namespace cumeta {

template <class LaneOfDevice>
class ComposedConvBlock final : public LayerPasses {
 public:
  ComposedConvBlock(const ConvBlock& b, const Geometry& g, Array scratch, LaneOfDevice& lane)
      : inner_(inner_geometry(b, g)),
        z_size_(std::int64_t{g.examples} * inner_.input.size()),
        norm_record_(record(b.norm, inner_)),
        convolution_parameters_(parameters(b.convolution, g.input)),
        norm_parameters_(parameters(b.norm, inner_.input)),
        pooled_(b.pooled),
        scratch_(scratch),
        convolution_(bind(b.convolution, g, behind_rooms(scratch), lane)),
        norm_(bind(b.norm, inner_, Array{}, lane)),
        norm_by_record_(bind(b.norm, Geometry{inner_.input, inner_.examples, 0}, Array{}, lane)),
        relu_(bind(Relu{}, inner_, Array{}, lane)),
        pool_(b.pooled ? bind(b.pool, inner_, Array{}, lane) : nullptr) {}

  void forward(const Values& v) const override {
    const Array a = room(0, v), h = pooled_ ? room(1, v) : v.y;
    convolution_->forward({convolution_part(v.w), v.x, z(v.r), {}});
    norm_->forward({norm_part(v.w), z(v.r), a, statistics(v.r)});
    relu_->forward({{}, a, h, {}});
    if (pooled_) pool_->forward({{}, h, v.y, winners(v.r)});
  }

  void backward(const Values& v, const Gradients& d) const override {
    const Array a = normalised(v), dh = pooled_ ? room(1, v) : d.y, da = room(2, v), dz = room(3, v);
    const Array h = dh;  // only its shape is looked at
    if (pooled_) pool_->backward({{}, h, v.y, winners(v.r)}, {d.y, dh, {}});
    relu_->backward({{}, a, h, {}}, {dh, da, {}});
    norm_->backward({norm_part(v.w), z(v.r), a, statistics(v.r)}, {da, dz, norm_part(d.w)});
    convolution_->backward({convolution_part(v.w), v.x, z(v.r), {}}, {dz, d.x, convolution_part(d.w)});
  }

  void tangent_forward(const Values& v, const Values& R) const override {
    const Array a = normalised(v), Ra = room(1, v), Rh = pooled_ ? room(2, v) : R.y;
    convolution_->tangent_forward({convolution_part(v.w), v.x, z(v.r), {}}, {convolution_part(R.w), R.x, z(R.r), {}});
    norm_->tangent_forward({norm_part(v.w), z(v.r), a, statistics(v.r)}, {norm_part(R.w), z(R.r), Ra, statistics(R.r)});
    relu_->tangent_forward({{}, a, Rh, {}}, {{}, Ra, Rh, {}});
    if (pooled_) pool_->tangent_forward({{}, a, v.y, winners(v.r)}, {{}, Rh, R.y, {}});
  }

  void tangent_backward(const Values& v, const Gradients& d, const Values& R, const Gradients& Rd) const override {
    const Array a = normalised(v), da = room(2, v), dz = room(3, v), Rda = room(5, v), Rdz = room(4, v);
    // Rdz takes the room of Rdh, which nobody reads any more.
    const Array dh = pooled_ ? room(1, v) : d.y, Rdh = pooled_ ? room(4, v) : Rd.y, h = a;
    if (pooled_) {
      pool_->backward({{}, h, v.y, winners(v.r)}, {d.y, dh, {}});
      pool_->tangent_backward({{}, h, v.y, winners(v.r)}, {d.y, {}, {}}, {}, {Rd.y, Rdh, {}});
    }
    relu_->backward({{}, a, h, {}}, {dh, da, {}});
    relu_->tangent_backward({{}, a, h, {}}, {dh, {}, {}}, {}, {Rdh, Rda, {}});
    const Values norm{norm_part(v.w), z(v.r), a, statistics(v.r)};
    norm_->backward(norm, {da, dz, {}});
    norm_->tangent_backward(norm, {da, dz, {}}, {norm_part(R.w), z(R.r), {}, statistics(R.r)},
                            {Rda, Rdz, norm_part(Rd.w)});
    convolution_->tangent_backward({convolution_part(v.w), v.x, z(v.r), {}}, {dz, {}, {}},
                                   {convolution_part(R.w), R.x, z(R.r), {}}, {Rdz, Rd.x, convolution_part(Rd.w)});
  }

 private:
  Array behind_rooms(const Array& scratch) const {
    const std::int64_t rooms = composed_conv_block_rooms * z_size_;
    return scratch.size > rooms ? scratch.slice(rooms, scratch.size - rooms) : Array{};
  }
  Array convolution_part(const Array& w) const { return w.slice(0, convolution_parameters_); }
  Array norm_part(const Array& w) const {
    return norm_parameters_ > 0 ? w.slice(convolution_parameters_, norm_parameters_) : Array{};
  }
  Array z(const Array& r) const { return r.slice(0, z_size_); }
  Array statistics(const Array& r) const { return r.slice(z_size_, norm_record_); }
  Array winners(const Array& r) const { return r.slice(z_size_ + norm_record_, r.size - z_size_ - norm_record_); }
  Array room(int index, const Values& v) const { return scratch_.slice(index * z_size_, z_size_).rows(0, v.y.tasks); }

  /// a, from z and the record as it stands.
  Array normalised(const Values& v) const {
    const Array a = room(0, v);
    norm_by_record_->forward({norm_part(v.w), z(v.r), a, statistics(v.r)});
    return a;
  }

  Geometry inner_;
  std::int64_t z_size_, norm_record_, convolution_parameters_, norm_parameters_;
  bool pooled_;
  Array scratch_;
  std::unique_ptr<LayerPasses> convolution_, norm_, norm_by_record_, relu_, pool_;
};

}  // namespace cumeta
