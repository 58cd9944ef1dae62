// SPDX-License-Identifier: Apache-2.0
// Convolution on the CPU: every pass is a few contractions over offset lists, a chunk of images at a time; no im2col.
#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/layers/conv2d.h"
#include "kernels/layers/conv2d_offsets_cpu.h"
#include "kernels/tools/contraction_cpu.h"
#include "kernels/tools/elementwise_cpu.h"

namespace cumeta {
namespace {

/// A pair of operands of one sum; a tangent has two of them.
struct Pair {
  const float* a;
  const float* b;
};
struct Pairs {
  std::array<Pair, 2> pair{};
  int count = 0;
  void add(const float* a, const float* b) { pair[static_cast<std::size_t>(count++)] = {a, b}; }
  const Pair& operator[](int i) const { return pair[static_cast<std::size_t>(i)]; }
};

class Conv2dCpu final : public LayerPasses {
 public:
  Conv2dCpu(const Conv2d& layer, const Geometry& geometry, Array scratch)
      : layer_(layer),
        in_(geometry.input),
        out_(output(layer, geometry.input)),
        examples_(geometry.examples),
        images_(images_at_once(layer, geometry)),
        padded_(pads_images(layer, geometry.input)),
        backward_(backward_classes(layer, in_, images_)),
        scratch_(scratch.row<float>(0)) {
    if (padded_) {
      list_padded();
    } else {
      forward_ = forward_classes(layer, in_, images_);
      taps_ = tap_pixels(layer, in_, images_);
      for (int c = 0; c < in_.channels; ++c) {
        a_channels_.push_back(c);
        c_channels_.push_back(c * layer.filters);
      }
    }
  }

  void forward(const Values& v) const override {
    for (int task = 0; task < v.y.tasks; ++task) {
      const float* w = v.w.row<float>(task);
      Pairs pairs;
      pairs.add(v.x.row<float>(task), w);
      to_outputs(v.y.row<float>(task), layer_.bias ? w + weights() : nullptr, pairs);
    }
  }
  void backward(const Values& v, const Gradients& d) const override {
    for (int task = 0; task < v.y.tasks; ++task) {
      const float* dy = d.y.row<float>(task);
      if (d.w) {
        Pairs pairs;
        pairs.add(v.x.row<float>(task), dy);
        to_weights(d.w.row<float>(task), dy, pairs);
      }
      if (d.x) {
        Pairs pairs;
        pairs.add(dy, transposed(v.w.row<float>(task), 0));
        to_inputs(d.x.row<float>(task), pairs);
      }
    }
  }
  void tangent_forward(const Values& v, const Values& R) const override {
    for (int task = 0; task < v.y.tasks; ++task) {
      const float* Rw = R.w ? R.w.row<float>(task) : nullptr;
      Pairs pairs;
      if (Rw) pairs.add(v.x.row<float>(task), Rw);
      if (R.x) pairs.add(R.x.row<float>(task), v.w.row<float>(task));
      to_outputs(R.y.row<float>(task), Rw && layer_.bias ? Rw + weights() : nullptr, pairs);
    }
  }
  void tangent_backward(const Values& v, const Gradients& d, const Values& R, const Gradients& Rd) const override {
    for (int task = 0; task < v.y.tasks; ++task) {
      const float* dy = d.y.row<float>(task);
      const float* Rdy = Rd.y.row<float>(task);
      if (Rd.w) {
        Pairs pairs;
        pairs.add(v.x.row<float>(task), Rdy);
        if (R.x) pairs.add(R.x.row<float>(task), dy);
        to_weights(Rd.w.row<float>(task), Rdy, pairs);
      }
      if (Rd.x) {
        Pairs pairs;
        pairs.add(Rdy, transposed(v.w.row<float>(task), 0));
        if (R.w) pairs.add(dy, transposed(R.w.row<float>(task), 1));
        to_inputs(Rd.x.row<float>(task), pairs);
      }
    }
  }

 private:
  int taps() const { return layer_.kernel * layer_.kernel; }
  std::int64_t tap_size() const { return std::int64_t{in_.channels} * layer_.filters; }
  std::int64_t weights() const { return taps() * tap_size(); }

  /// Calls f(first image, images) for every chunk of at most `most` images.
  template <class F>
  void for_each_chunk(int most, F&& f) const {
    for (int first = 0; first < examples_; first += most) f(first, std::min(most, examples_ - first));
  }

  void to_outputs(float* y, const float* bias, const Pairs& pairs) const {
    for_each_chunk(images_, [&](int first, int images) {
      float* to = y + std::int64_t{first} * out_.size();
      if (!padded_) {
        contract_classes(forward_, first, images, in_.size(), layer_.filters, pairs, to, bias);
        return;
      }
      std::array<ContractionSegment, 2> segments;
      for (int i = 0; i < pairs.count; ++i) {
        segments[static_cast<std::size_t>(i)] = {pad(pairs[i].a, first, images, i), pairs[i].b,
                                                 std::int64_t{taps()} * in_.channels};
      }
      contract({.rows = std::int64_t{images} * out_.height * out_.width,
                .columns = layer_.filters,
                .a_rows = padded_pixels_.data(),
                .c_rows = output_pixels_.data(),
                .segments = segments.data(),
                .segment_count = pairs.count,
                .a_terms = padded_taps_.data(),
                .b_terms = weight_rows_.data(),
                .c = to,
                .start = bias});
    });
  }

  void to_inputs(float* dx, const Pairs& pairs) const {
    for_each_chunk(images_, [&](int first, int images) {
      contract_classes(backward_, first, images, out_.size(), in_.channels, pairs,
                       dx + std::int64_t{first} * in_.size(), nullptr);
    });
  }

  /// pair.a are the images that the classes' rows of A count in, `a_image` numbers each.
  void contract_classes(const std::vector<PixelClass>& classes, int first, int images, std::int64_t a_image,
                        std::int64_t columns, const Pairs& pairs, float* c, const float* bias) const {
    std::array<ContractionSegment, 32> segments;
    for (const PixelClass& pixels : classes) {
      Contraction contraction{.rows = images * pixels.per_image,
                              .columns = columns,
                              .a_rows = pixels.a_rows.data(),
                              .c_rows = pixels.c_rows.data(),
                              .segments = segments.data(),
                              .b_step = columns,
                              .c = c,
                              .start = bias};
      const auto flush = [&] {
        contract(contraction);
        contraction.accumulate = true;
        contraction.segment_count = 0;
      };
      for (int i = 0; i < pairs.count; ++i) {
        for (const TapRun& run : pixels.runs) {
          if (contraction.segment_count == static_cast<int>(segments.size())) flush();
          segments[static_cast<std::size_t>(contraction.segment_count++)] = {pairs[i].a + first * a_image + run.a,
                                                                             pairs[i].b + run.b, run.depth};
        }
      }
      if (contraction.segment_count > 0 || !contraction.accumulate) flush();
    }
  }

  /// pair.a is an input, pair.b a gradient of the output; the bias's gradient comes from dy. A chunk's sum is formed by
  /// itself and added to those before it: one chain over all pixels loses too many roundings.
  void to_weights(float* dw, const float* dy, const Pairs& pairs) const {
    constexpr int longest_chain = 8192;  // pixels
    const int most = std::clamp(longest_chain / (out_.height * out_.width), 1, images_);
    for_each_chunk(most, [&](int first, int images) {
      float* sum = first == 0 ? dw : scratch_;  // where a transposed copy of the weights will stand afterwards
      std::array<ContractionSegment, 2> segments;
      for (int i = 0; i < pairs.count; ++i) {
        const float* x = padded_ ? pad(pairs[i].a, first, images, i) : pairs[i].a + std::int64_t{first} * in_.size();
        segments[static_cast<std::size_t>(i)] = {x, pairs[i].b + std::int64_t{first} * out_.size(), 0};
      }
      Contraction contraction{.columns = layer_.filters, .segments = segments.data(), .segment_count = pairs.count};
      const auto all_segments = [&](std::int64_t depth) {
        for (auto& segment : segments) segment.depth = depth;
      };
      if (padded_) {
        all_segments(std::int64_t{images} * out_.height * out_.width);
        contraction.rows = std::int64_t{taps()} * in_.channels;
        contraction.a_rows = padded_taps_.data();
        contraction.c_rows = weight_rows_.data();
        contraction.a_terms = padded_pixels_.data();
        contraction.b_terms = output_pixels_.data();
        contraction.c = sum;
        contract(contraction);
        if (first > 0) cpu::add(dw, dw, sum, weights());
        return;
      }
      contraction.rows = in_.channels;
      contraction.a_rows = a_channels_.data();
      contraction.c_rows = c_channels_.data();
      for (int tap = 0; tap < taps(); ++tap) {
        const TapPixels& pixels = taps_[static_cast<std::size_t>(tap)];
        all_segments(images * pixels.per_image);
        contraction.a_terms = pixels.x.data();
        contraction.b_terms = pixels.y.data();
        contraction.c = sum + tap * tap_size();
        contract(contraction);
      }
      if (first > 0) cpu::add(dw, dw, sum, weights());
    });
    if (layer_.bias) {
      cpu::column_sums(dw + weights(), dy, std::int64_t{examples_} * out_.height * out_.width, layer_.filters, 1.0f);
    }
  }

  /// Each tap [channels][filters] turned into [filters][channels], at its transposed position.
  const float* transposed(const float* w, int slot) const {
    float* to = scratch_ + slot * weights();
    for (int row = 0; row < layer_.kernel; ++row) {
      for (int column = 0; column < layer_.kernel; ++column) {
        const int place = transposed_position(layer_, row) * layer_.kernel + transposed_position(layer_, column);
        cpu::transpose(to + place * tap_size(), w + (row * layer_.kernel + column) * tap_size(), in_.channels,
                       layer_.filters);
      }
    }
    return to;
  }

  int padded_width() const { return in_.width + 2 * layer_.padding; }

  /// `images` images from `first` on with a border of zeros, in scratch.
  const float* pad(const float* x, int first, int images, int slot) const {
    const std::int64_t size = padded_image(layer_, in_);
    float* to = scratch_ + 2 * weights() + slot * images_ * size;
    const std::int64_t row = std::int64_t{in_.width} * in_.channels;
    const std::int64_t padded_row = std::int64_t{padded_width()} * in_.channels;
    std::memset(to, 0, static_cast<std::size_t>(images * size) * sizeof(float));
    for (int image = 0; image < images; ++image) {
      for (int y = 0; y < in_.height; ++y) {
        std::memcpy(to + image * size + (y + layer_.padding) * padded_row + layer_.padding * in_.channels,
                    x + (std::int64_t{first + image} * in_.height + y) * row,
                    static_cast<std::size_t>(row) * sizeof(float));
      }
    }
    return to;
  }

  void list_padded() {
    const auto size = static_cast<int>(padded_image(layer_, in_));
    for (int image = 0; image < images_; ++image) {
      for (int row = 0; row < out_.height; ++row) {
        for (int column = 0; column < out_.width; ++column) {
          padded_pixels_.push_back(image * size + (row * padded_width() + column) * layer_.stride * in_.channels);
          output_pixels_.push_back(((image * out_.height + row) * out_.width + column) * layer_.filters);
        }
      }
    }
    for (int tap = 0; tap < taps(); ++tap) {
      for (int c = 0; c < in_.channels; ++c) {
        padded_taps_.push_back((tap / layer_.kernel * padded_width() + tap % layer_.kernel) * in_.channels + c);
        weight_rows_.push_back((tap * in_.channels + c) * layer_.filters);
      }
    }
  }

  Conv2d layer_;
  Shape in_, out_;
  int examples_;
  int images_;   // of one chunk
  bool padded_;  // see pads_images
  std::vector<PixelClass> forward_, backward_;
  std::vector<TapPixels> taps_;
  std::vector<std::int32_t> a_channels_, c_channels_;
  std::vector<std::int32_t> padded_pixels_, output_pixels_, padded_taps_, weight_rows_;
  float* scratch_;
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const Conv2d& layer, const Geometry& geometry, Array scratch, CpuLane&) {
  return std::make_unique<Conv2dCpu>(layer, geometry, scratch);
}

}  // namespace cumeta
