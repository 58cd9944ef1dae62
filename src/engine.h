// SPDX-License-Identifier: Apache-2.0
// A range of a model's stages bound to a lane for one set of examples:
//   gradient(w)          loss and its gradient; leaves a tape (y, r, dy of every stage)
//   hessian_product(w,v) (d/de) gradient(w + e v) at e = 0, on that tape
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "src/arena.h"
#include "src/model_layout.h"

namespace cumeta {

/// Which stages and which examples.
struct EngineSizes {
  int first_stage = 0, last_stage = 0;  ///< [first, last)
  int examples = 0;
  int statistics_rows = 0;  ///< as Geometry
  int first_loss_row = 0;
  double factor = 1;  ///< of the loss's gradient
};

/// The values of one pass that its tangents need, per stage.
struct Tape {
  std::vector<Array> y, r, dy;
};
/// The tangents of one pass. dy holds two arrays that stages use in turn.
struct TangentTape {
  std::vector<Array> y, r;
  Array dy[2];
};

/// Takes a tape's arrays for `tasks` tasks; `with_gradient` false leaves out dy (forward passes only).
Tape take_tape(Arena& arena, const std::string& name, const ModelLayout& layout, const EngineSizes& sizes, int tasks,
               bool with_gradient);
TangentTape take_tangent_tape(Arena& arena, const std::string& name, const ModelLayout& layout,
                              const EngineSizes& sizes, int tasks);
/// The most scratch numbers per task that any stage of the engine needs.
std::int64_t engine_scratch(const ModelLayout& layout, const EngineSizes& sizes, Device device);

class Engine {
 public:
  Engine(Lane& lane, const ModelLayout& layout, const Loss& loss, const EngineSizes& sizes, Array scratch);

  // w, dw, v and products are rows of all parameters of the model; only the engine's stages are touched.
  void forward(int tasks, Array w, Array x, const Tape& tape) const;
  /// The loss of the tape's last y, and its gradient into the tape's last dy.
  void loss(int tasks, Array t, const Tape& tape, Array loss, Array hits, bool with_gradient) const;
  /// From the tape's last dy down; dx may be empty.
  void backward(int tasks, Array w, Array x, const Tape& tape, Array dw, Array dx = {}) const;
  /// forward, loss, backward.
  void gradient(int tasks, Array w, Array x, Array t, const Tape& tape, Array loss, Array hits, Array dw,
                Array dx = {}) const;
  /// Product of the loss's Hessian at the tape's point with v; Rdx (may be empty) its mixed part with x. dx as backward
  /// was given it.
  void hessian_product(int tasks, Array w, Array v, Array x, Array t, const Tape& tape, const TangentTape& tangents,
                       Array product, Array dx = {}, Array Rdx = {}) const;

  const EngineSizes& sizes() const { return sizes_; }
  /// Only for batch norms with a given record.
  const std::vector<PlacedStage>& stages() const { return stages_; }

 private:
  std::vector<PlacedStage> stages_;
  std::vector<std::unique_ptr<LayerPasses>> passes_;
  std::unique_ptr<LossPasses> loss_;
  EngineSizes sizes_;
};

}  // namespace cumeta
