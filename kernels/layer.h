// SPDX-License-Identifier: Apache-2.0
// THE CONTRACT of a layer and of a loss: four passes on arrays of one row per task.
//
//   forward          (w, x)                                 -> y, r
//   backward         (w, x, y, r, dy)                       -> dx, dw
//   tangent_forward  (w, x, y, r | Rw, Rx)                  -> Ry, Rr
//   tangent_backward (w, x, y, r, dy | Rw, Rx, Ry, Rr, Rdy) -> Rdx, Rdw      Rdw is the Hessian-vector product
//
// w parameters, x input, y output, r the layer's record, t target; d.. gradients, R.. derivatives along one direction.
// Tangent passes read values and write only tangents. Outputs are overwritten, never added to.
// Rows: w as the layer's parameters lie in the flat vector; x, y [examples][height][width][channels].
#pragma once
#include "cumeta/shape.h"
#include "kernels/array.h"

namespace cumeta {

/// What a layer is bound to: the sizes of one task's pass.
struct Geometry {
  Shape input;
  int examples = 0;  ///< rows of x and y: support, query, or support + query
  /// Rows [0, statistics_rows) give batch norm's statistics. 0: the record is given (running statistics), forward only
  /// reads it.
  int statistics_rows = 0;
};

/// Values at a point w; as R.., their derivatives along a direction.
struct Values {
  Array w;  ///< empty: no parameters (as Rw empty: the direction is zero here)
  Array x;  ///< as Rx empty: zero (the first layer)
  Array y;
  Array r;  ///< empty: the layer has no record
};
/// Gradients of the loss: y comes in, x and w go out; an empty x or w is not wanted.
struct Gradients {
  Array y, x, w;
};

/// Every call works on tasks [0, v.y.tasks). Bound to a lane, so calls are in that lane's order.
class LayerPasses {
 public:
  virtual ~LayerPasses() = default;
  virtual void forward(const Values& v) const = 0;
  virtual void backward(const Values& v, const Gradients& d) const = 0;
  virtual void tangent_forward(const Values& v, const Values& R) const = 0;
  /// d.y and, where Rd.x is wanted, d.x are as backward was given them and left them.
  virtual void tangent_backward(const Values& v, const Gradients& d, const Values& R, const Gradients& Rd) const = 0;
};

/// What a loss is bound to. It runs over rows [first_row, examples) of x; n = examples - first_row.
struct LossGeometry {
  int outputs = 0;
  int examples = 0;
  int first_row = 0;
  double factor =
      1.0;  ///< dx is the gradient of factor x mean loss: 1 for mean, n (x outputs) for sum, ways for sum_over_ways
};

/// x [examples][outputs], t [examples][targets]. Gradient rows below first_row are written as zeros.
class LossPasses {
 public:
  virtual ~LossPasses() = default;
  /// loss: [tasks][1], the mean over the rows whatever the factor. hits: [tasks][1], the number of rows whose largest
  /// output (first index wins) is the target, 0 for regression. hits and dx may be empty: not wanted.
  virtual void forward_backward(Array x, Array t, Array loss, Array hits, Array dx) const = 0;
  virtual void tangent_backward(Array x, Array t, Array Rx, Array Rdx) const = 0;
};

}  // namespace cumeta
