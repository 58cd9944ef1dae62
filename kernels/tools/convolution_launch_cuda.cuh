// SPDX-License-Identifier: Apache-2.0
// The convolution's passes as launches: picks the compiled kernel for the tile and copy width that the plan chose.
#pragma once
#include <cassert>
#include <cstdint>

#include "kernels/tools/convolution_kernels_cuda.cuh"
#include "kernels/tools/cuda_launch.cuh"

namespace cumeta {

/// One term of a sum: two arrays whose product is contracted.
struct Term {
  Array a, b;
};

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

/// go.operator()<tiles>(), or of their twins on tensor cores where the lane's precision is TF32.
template <class... T, class Go>
void in_precision(const CudaLane& lane, const Go& go) {
  if (lane.tf32()) {
    go.template operator()<typename T::Tf32...>();
  } else {
    go.template operator()<T...>();
  }
}

class ConvolutionLaunches {
 public:
  ConvolutionLaunches(const Conv2d& layer, const Geometry& geometry, Array scratch, CudaLane& lane)
      : layer_(layer), geometry_(geometry), scratch_(scratch), lane_(lane), weights_(weight_shape(layer, geometry)) {}

  std::int64_t weight_size() const { return std::int64_t{weights_.rows} * weights_.columns; }
  Array weight(const Array& w) const { return w ? w.slice(0, weight_size()) : Array{}; }
  Array bias(const Array& w) const { return w && layer_.bias ? w.slice(weight_size(), layer_.filters) : Array{}; }

  struct ForwardPlan {
    GatherCall call;
    GatherTile tile = GatherTile::m64n64;
    Vectors vectors = Vectors::none;
  };
  /// z = sum over terms (x, w) + bias
  ForwardPlan plan_forward(const Term& first, const Term& second, const Array& bias, const Array& z,
                           bool vectors = true) const {
    const bool left = geometry_.input.channels % 4 == 0 && first.a.by_fours() && second.a.by_fours();
    const bool right = vectors && layer_.kernel <= kMaskedKernel && layer_.filters % 4 == 0 && first.b.by_fours() &&
                       second.b.by_fours();
    ForwardPlan plan;
    plan.vectors = !right ? Vectors::none : left ? Vectors::full : Vectors::half;
    plan.tile = choose_gather_tile(weights_.pixels, layer_.filters, weights_.rows, plan.vectors);
    plan.call = gather_call(forward_shape(layer_, geometry_, plan.tile), plan.tile, operand_pairs(first, second), z);
    if (bias) plan.call.bias = bias.row<float>(0), plan.call.bias_stride = bias.stride;
    return plan;
  }

  struct BackwardPlan {
    std::vector<GatherCall> data;  ///< empty: dx is not wanted
    WeightCall weights;            ///< no row tiles: dw is not wanted
    GatherTile data_tile = GatherTile::m64n64;
    WeightTile weight_tile = WeightTile::m64n64;
    bool data_vectors = false;
    Vectors vectors = Vectors::none;
    bool joint = false;  ///< one launch does it all
  };
  /// dx = sum over terms (dz, w);  dw = sum over terms (x, dz), db = column sums of bias_source. Empty: not wanted.
  BackwardPlan plan_backward(const Array& dx, const Term& dx_first, const Term& dx_second, const Array& dw,
                             const Term& dw_first, const Term& dw_second, const Array& bias_source,
                             bool vectors = true) const {
    BackwardPlan plan;
    vectors = vectors && layer_.kernel <= kMaskedKernel;
    plan.data_vectors = vectors && layer_.filters % 4 == 0 && dx_first.a.by_fours() && dx_first.b.by_fours() &&
                        dx_second.a.by_fours() && dx_second.b.by_fours();
    const bool left = geometry_.input.channels % 4 == 0 && dw_first.a.by_fours() && dw_second.a.by_fours();
    const bool right = vectors && layer_.filters % 4 == 0 && dw_first.b.by_fours() && dw_second.b.by_fours();
    plan.vectors = !right ? Vectors::none : left ? Vectors::full : Vectors::half;
    // The tile of a class by its mean number of rows.
    const std::int64_t rows = std::int64_t{geometry_.examples} * geometry_.input.height * geometry_.input.width /
                              (layer_.stride * layer_.stride);
    plan.data_tile =
        choose_gather_tile(rows, geometry_.input.channels, layer_.filters,
                           plan.data_vectors ? Vectors::full : Vectors::none, layer_.stride * layer_.stride);
    plan.weight_tile = choose_weight_tile(weights_.rows, weights_.columns, plan.vectors);
    // Side by side only tiles for equally narrow layers are compiled.
    if (dx && plan.data_vectors && plan.vectors == Vectors::full) {
      if (plan.data_tile == GatherTile::m128n32 && plan.weight_tile != WeightTile::m64n32)
        plan.data_tile = GatherTile::m64n64;
      if (plan.data_tile != GatherTile::m128n32) plan.weight_tile = WeightTile::m64n64;
    }
    if (dx)
      for (const GatherShape& shape : backward_data_shapes(layer_, geometry_, plan.data_tile))
        plan.data.push_back(gather_call(shape, plan.data_tile, operand_pairs(dx_first, dx_second), dx));
    if (dw) plan.weights = weight_call(plan.weight_tile, operand_pairs(dw_first, dw_second), dw, bias_source);
    // Also where dw is not wanted: a tape that is made again must meet the sums, in their order, of the first time.
    plan.joint = vectors && dx &&
                 joint_backward(layer_, geometry_.input,
                                {dx_first.a, dx_first.b, dx_second.a, dx_second.b, dw_first.a, dw_first.b, dw_second.a,
                                 dw_second.b});
    assert(!plan.joint || (plan.data.size() == 1 && plan.data_vectors && plan.vectors == Vectors::full));
    return plan;
  }

  /// One launch of the plan (kernels/tools/convolution_launch_cuda.cu).
  void run_forward(Op op, const ForwardPlan& plan, int tasks) const;
  /// One launch where the plan is joint, else one per part; one more where dw is made of splits.
  void run_backward(Op op, const BackwardPlan& plan, const Array& dw, int tasks) const;
  /// go.operator()<Tile, VA, VB>() for the plan's tile.
  template <class Go>
  static void pick_forward(const ForwardPlan& plan, const Go& go) {
    const GatherTile tile = plan.tile;
    if (plan.vectors == Vectors::none) return go.template operator()<TileM64N64, 1, 1>();
    if (plan.vectors == Vectors::half) {
      constexpr int threads = Tiles::WeightM64N64::threads;
      if (tile == GatherTile::short_m64n64) return go.template operator()<ShortForwardTile<64, 64, threads>, 1, 4>();
      if (tile == GatherTile::short_m128n32) return go.template operator()<ShortForwardTile<128, 32, threads>, 1, 4>();
      return go.template operator()<TileM128N32, 1, 4>();
    }
    if (tile == GatherTile::m128n32) return go.template operator()<Tiles::M128N32, 4, 4>();
    return in_tile(tile, [&]<class T>() { return go.template operator()<T, 4, 4>(); });
  }

  static int weight_work(const WeightCall& w) { return w.row_tiles * w.column_tiles * w.shape.splits + w.bias_blocks; }

 private:
  /// go.operator()<Tile>() for a tile other than m128n32 where numbers move by fours.
  template <class Go>
  static void in_tile(GatherTile tile, const Go& go) {
    switch (tile) {
      case GatherTile::m32n64:
        return go.template operator()<Tiles::M32N64>();
      case GatherTile::m20n64:
        return go.template operator()<Tiles::M20N64>();
      case GatherTile::m20n32:
        return go.template operator()<Tiles::M20N32>();
      default:
        return go.template operator()<Tiles::M64N64>();
    }
  }
  /// Block b works on task b mod tasks: a grid's second axis ends at 65535, its first does not.
  static dim3 grid(int tasks, int work) { return dim3(static_cast<unsigned>(tasks) * static_cast<unsigned>(work)); }

  static GatherCall gather_call(const GatherShape& shape, GatherTile tile, const OperandPairs& pairs,
                                const Array& out) {
    GatherCall call;
    call.shape = shape, call.pairs = pairs;
    call.out = out.row<float>(0), call.out_stride = out.stride;
    call.column_tiles = tiles_of(shape.columns, columns_of(tile));
    call.vector_out = shape.columns % 4 == 0 && out.by_fours();
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
    call.vector_out = weights_.columns % 4 == 0 && out.by_fours();
    if (layer_.bias && bias_source) {
      const Array db = split ? scratch_.slice(weight_size(), layer_.filters) : bias(dw);
      call.bias = db.row<float>(0), call.bias_stride = db.stride;
      call.bias_source = bias_source.row<float>(0), call.bias_source_stride = bias_source.stride;
      // A short tile has the bias as a row; its source is what the first term multiplies.
      call.bias_blocks = is_short(tile) ? 0 : tiles_of(layer_.filters, 32) * weights_.splits;
      assert(!is_short(tile) || call.bias_source == pairs.b0);
    }
    return call;
  }

 public:
  /// go.operator()<Tile, V>() for the plan's data tile.
  template <class Go>
  static void pick_data(const BackwardPlan& plan, const Go& go) {
    if (!plan.data_vectors) return go.template operator()<TileM64N64, 1>();
    if (plan.data_tile == GatherTile::m128n32) return go.template operator()<Tiles::M128N32, 4>();
    return in_tile(plan.data_tile, [&]<class T>() { return go.template operator()<T, 4>(); });
  }
  /// go.operator()<Tile, VA, VB>() for the plan's weight tile.
  template <class Go>
  static void pick_weights(const BackwardPlan& plan, const Go& go) {
    if (plan.vectors == Vectors::none) return go.template operator()<TileM64N64, 1, 1>();
    if (plan.vectors == Vectors::half) {
      constexpr int threads = Tiles::WeightM64N64::threads;
      if (plan.weight_tile == WeightTile::short_m16n64)
        return go.template operator()<ShortWeightTile<16, 64, threads>, 1, 4>();
      if (plan.weight_tile == WeightTile::short_m32n32)
        return go.template operator()<ShortWeightTile<32, 32, threads>, 1, 4>();
      return go.template operator()<TileM32N32, 1, 4>();
    }
    if (plan.weight_tile == WeightTile::m64n32) return go.template operator()<Tiles::WeightM64N32, 4, 4>();
    return go.template operator()<Tiles::WeightM64N64, 4, 4>();
  }
  /// go.operator()<data tile, weight tile>() for a joint plan.
  template <class Go>
  static void pick_joint(const BackwardPlan& plan, const Go& go) {
    if (plan.data_tile == GatherTile::m128n32) return go.template operator()<Tiles::M128N32, Tiles::WeightM64N32>();
    return in_tile(plan.data_tile, [&]<class T>() { return go.template operator()<T, Tiles::WeightM64N64>(); });
  }

 private:
  Conv2d layer_;
  Geometry geometry_;
  Array scratch_;
  CudaLane& lane_;
  WeightShape weights_;
};

}  // namespace cumeta
