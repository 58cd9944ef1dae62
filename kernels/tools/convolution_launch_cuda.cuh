// SPDX-License-Identifier: Apache-2.0
// The convolution's passes as launches: picks the compiled kernel for the tile and copy width that the plan chose.
#pragma once
#include <cstdint>

#include "kernels/tools/convolution_kernels_cuda.cuh"
#include "kernels/tools/cuda_launch.cuh"

namespace cumeta {
namespace {

/// One term of a sum: two arrays whose product is contracted.
struct Term {
  Array a, b;
};

inline bool aligned(const Array& a) {
  return !a || (reinterpret_cast<std::uintptr_t>(a.data) % 16 == 0 && a.stride % 4 == 0);
}

/// Terms with an empty operand are zero and left out.
inline OperandPairs operand_pairs(const Term& first, const Term& second) {
  OperandPairs p;
  for (const Term& t : {first, second}) {
    if (!t.a || !t.b) continue;
    const float *a = t.a.row<float>(0), *b = t.b.row<float>(0);
    if (p.count++ == 0) {
      p.a0 = p.a1 = a, p.b0 = p.b1 = b;
      p.a0_stride = p.a1_stride = t.a.stride, p.b0_stride = p.b1_stride = t.b.stride;
    } else {
      p.a1 = a, p.b1 = b, p.a1_stride = t.a.stride, p.b1_stride = t.b.stride;
    }
  }
  return p;
}

class ConvolutionLaunches {
 public:
  ConvolutionLaunches(const Conv2d& layer, const Geometry& geometry, Array scratch, CudaLane& lane)
      : layer_(layer), geometry_(geometry), scratch_(scratch), lane_(lane), weights_(weight_shape(layer, geometry)) {}

  std::int64_t weight_size() const { return std::int64_t{weights_.rows} * weights_.columns; }
  Array weight(const Array& w) const { return w ? w.slice(0, weight_size()) : Array{}; }
  Array bias(const Array& w) const { return w && layer_.bias ? w.slice(weight_size(), layer_.filters) : Array{}; }

  /// z = sum over terms (x, w) + bias
  void forward(Op op, const Term& first, const Term& second, const Array& bias, const Array& z) const {
    const bool left = geometry_.input.channels % 4 == 0 && aligned(first.a) && aligned(second.a);
    const bool right = layer_.filters % 4 == 0 && aligned(first.b) && aligned(second.b);
    const Vectors vectors = !right ? Vectors::none : left ? Vectors::full : Vectors::half;
    const std::int64_t rows = std::int64_t{weights_.pixels};
    const GatherTile tile = choose_gather_tile(rows, layer_.filters, weights_.rows, vectors);
    GatherCall call = gather_call(forward_shape(layer_, geometry_, tile), tile, operand_pairs(first, second), z);
    if (bias) call.bias = bias.row<float>(0), call.bias_stride = bias.stride;
    const auto go = [&]<class T, int VA, int VB>() {
      launch(lane_, op, gather_kernel<T, VA, VB, false>, grid(z.tasks, call.shape.tiles * call.column_tiles),
             dim3(T::threads), 0, call);
    };
    if (vectors == Vectors::none) return go.template operator()<TileM64N64, 1, 1>();
    if (vectors == Vectors::half) {
      if (tile == GatherTile::m128n32) return go.template operator()<TileM128N32, 1, 4>();
      if (tile == GatherTile::m128n64_short) return go.template operator()<TileM128N64Short, 1, 4>();
      return go.template operator()<TileM64N64, 1, 4>();
    }
    if (tile == GatherTile::m128n32) return go.template operator()<TileM128N32, 4, 4>();
    if (tile == GatherTile::m20n64) return go.template operator()<TileM20N64, 4, 4>();
    if (tile == GatherTile::m20n32) return go.template operator()<TileM20N32, 4, 4>();
    return go.template operator()<TileM64N64, 4, 4>();
  }

  /// dx = sum over terms (dz, w);  dw = sum over terms (x, dz), db = column sums of bias_source. Empty: not wanted.
  void backward(Op op, const Array& dx, const Term& dx_first, const Term& dx_second, const Array& dw,
                const Term& dw_first, const Term& dw_second, const Array& bias_source) const {
    const bool data_vectors = layer_.filters % 4 == 0 && aligned(dx_first.a) && aligned(dx_first.b) &&
                              aligned(dx_second.a) && aligned(dx_second.b);
    const bool left = geometry_.input.channels % 4 == 0 && aligned(dw_first.a) && aligned(dw_second.a);
    const bool right = layer_.filters % 4 == 0 && aligned(dw_first.b) && aligned(dw_second.b);
    const Vectors vectors = !right ? Vectors::none : left ? Vectors::full : Vectors::half;
    // The tile of a class by its mean number of rows.
    const std::int64_t rows = std::int64_t{geometry_.examples} * geometry_.input.height * geometry_.input.width /
                              (layer_.stride * layer_.stride);
    const GatherTile data_tile = choose_gather_tile(rows, geometry_.input.channels, layer_.filters,
                                                    data_vectors ? Vectors::full : Vectors::none);
    const WeightTile weight_tile = choose_weight_tile(weights_.rows, weights_.columns, vectors);

    std::vector<GatherShape> data;
    if (dx) data = backward_data_shapes(layer_, geometry_, data_tile);
    const OperandPairs data_pairs = operand_pairs(dx_first, dx_second);
    WeightCall weights;
    if (dw) weights = weight_call(weight_tile, operand_pairs(dw_first, dw_second), dw, bias_source);
    std::size_t first_shape = 0;
    bool weights_done = !dw;
    if (dw && data.size() == 1 && data_vectors && vectors == Vectors::full) {
      launch_both(op, data_tile, gather_call(data[0], data_tile, data_pairs, dx), weight_tile, weights, dx.tasks);
      first_shape = 1, weights_done = true;
    }
    for (std::size_t i = first_shape; i < data.size(); ++i)
      launch_data(op, data_tile, data_vectors, gather_call(data[i], data_tile, data_pairs, dx), dx.tasks);
    if (!weights_done) launch_weights(op, weight_tile, vectors, weights, dw.tasks);
    if (dw && weights_.splits > 1) {
      const int numbers = static_cast<int>(weight_size()) + (layer_.bias ? layer_.filters : 0);
      const Array db = bias(dw);
      launch(lane_, op, add_splits_kernel, grid(dw.tasks, static_cast<int>(blocks_for(numbers, 256))), dim3(256), 0,
             weights.out, weights.out_stride, weights_.splits, static_cast<int>(weight_size()), layer_.filters,
             dw.row<float>(0), dw.stride, db ? db.row<float>(0) : nullptr, db.stride);
    }
  }

 private:
  static dim3 grid(int tasks, int work) { return dim3(static_cast<unsigned>(tasks), static_cast<unsigned>(work)); }

  static GatherCall gather_call(const GatherShape& shape, GatherTile tile, const OperandPairs& pairs,
                                const Array& out) {
    GatherCall call;
    call.shape = shape, call.pairs = pairs;
    call.out = out.row<float>(0), call.out_stride = out.stride;
    call.column_tiles = tiles_of(shape.columns, columns_of(tile));
    call.vector_out = shape.columns % 4 == 0 && aligned(out);
    return call;
  }
  WeightCall weight_call(WeightTile tile, const OperandPairs& pairs, const Array& dw, const Array& bias_source) const {
    WeightCall call;
    call.shape = weights_, call.pairs = pairs;
    const bool split = weights_.splits > 1;
    const Array out = split ? scratch_ : dw;
    call.out = out.row<float>(0), call.out_stride = out.stride;
    call.row_tiles = tiles_of(weights_.rows, rows_of(tile));
    call.column_tiles = tiles_of(weights_.columns, columns_of(tile));
    call.vector_out = weights_.columns % 4 == 0 && aligned(out);
    if (layer_.bias && bias_source) {
      const Array db = split ? scratch_.slice(weight_size(), layer_.filters) : bias(dw);
      call.bias = db.row<float>(0), call.bias_stride = db.stride;
      call.bias_source = bias_source.row<float>(0), call.bias_source_stride = bias_source.stride;
      call.bias_blocks = tiles_of(layer_.filters, 32) * weights_.splits;
    }
    return call;
  }
  static int weight_work(const WeightCall& w) { return w.row_tiles * w.column_tiles * w.shape.splits + w.bias_blocks; }

  void launch_data(Op op, GatherTile tile, bool vectors, const GatherCall& call, int tasks) const {
    const auto go = [&]<class T, int V>() {
      launch(lane_, op, gather_kernel<T, V, V, true>, grid(tasks, call.shape.tiles * call.column_tiles),
             dim3(T::threads), 0, call);
    };
    if (!vectors) return go.template operator()<TileM64N64, 1>();
    if (tile == GatherTile::m128n32) return go.template operator()<TileM128N32, 4>();
    if (tile == GatherTile::m20n64) return go.template operator()<TileM20N64, 4>();
    if (tile == GatherTile::m20n32) return go.template operator()<TileM20N32, 4>();
    return go.template operator()<TileM64N64, 4>();
  }
  void launch_weights(Op op, WeightTile tile, Vectors vectors, const WeightCall& call, int tasks) const {
    const auto go = [&]<class T, int VA, int VB>() {
      launch(lane_, op, weight_kernel<T, VA, VB>, grid(tasks, weight_work(call)), dim3(T::threads), 0, call);
    };
    if (vectors == Vectors::none) return go.template operator()<TileM64N64, 1, 1>();
    if (vectors == Vectors::half) {
      if (tile == WeightTile::m16n64) return go.template operator()<TileM16N64, 1, 4>();
      if (tile == WeightTile::m32n32) return go.template operator()<TileM32N32, 1, 4>();
      return go.template operator()<TileM64N64, 1, 4>();
    }
    if (tile == WeightTile::m64n32) return go.template operator()<TileM64N32, 4, 4>();
    return go.template operator()<TileM64N64, 4, 4>();
  }
  void launch_both(Op op, GatherTile data_tile, const GatherCall& data, WeightTile weight_tile,
                   const WeightCall& weights, int tasks) const {
    const auto go = [&]<class D, class W>() {
      launch(lane_, op, backward_kernel<D, W>, grid(tasks, data.shape.tiles * data.column_tiles + weight_work(weights)),
             dim3(D::threads), 0, data, weights);
    };
    const auto pick = [&]<class D>() {
      if (weight_tile == WeightTile::m64n32) return go.template operator()<D, TileM64N32>();
      return go.template operator()<D, TileM64N64>();
    };
    if (data_tile == GatherTile::m128n32) return pick.template operator()<TileM128N32>();
    if (data_tile == GatherTile::m20n64) return pick.template operator()<TileM20N64>();
    if (data_tile == GatherTile::m20n32) return pick.template operator()<TileM20N32>();
    return pick.template operator()<TileM64N64>();
  }

  Conv2d layer_;
  Geometry geometry_;
  Array scratch_;
  CudaLane& lane_;
  WeightShape weights_;
};

}  // namespace
}  // namespace cumeta
