// SPDX-License-Identifier: Apache-2.0
// How a model's layers share one flat parameter vector, and the stages that an engine walks.
#pragma once
#include <cstdint>
#include <vector>

#include "cumeta/device.h"
#include "cumeta/model.h"
#include "kernels/layer.h"
#include "kernels/row.h"
#include "kernels/stage.h"

namespace cumeta {

/// A stage in its place: parameters [offset, offset + size) of the flat vector, layers [first_layer, last_layer].
struct PlacedStage {
  Stage stage;
  Shape input, output;
  int first_layer = 0, last_layer = 0;
  int offset = 0, size = 0;
  int statistics_at = 0;    ///< first number of its batch norm's running statistics, if it keeps any
  int statistics_size = 0;  ///< 2 x channels, or 0

  /// Its batch norm, if it has one, and where that norm's record [mean | 1/sigma] lies in the stage's.
  const BatchNorm* norm() const;
  std::int64_t norm_record_at(const Geometry& geometry) const;
};

struct ModelLayout {
  std::vector<PlacedStage> stages;
  int parameters = 0;
  int outputs = 0;
  int targets = 0;     ///< numbers per example in t
  int statistics = 0;  ///< B: all running statistics
  bool has_batch_norm = false;
};

/// Per layer of the model own, unfused or vendor; empty: all own. Only linear and conv2d are ever another's than own.
using LayerImplementations = std::vector<Implementation>;
/// `implementation` for every linear and conv2d, own for the rest; fastest is own until it is measured.
LayerImplementations for_all_layers(const Model& model, Implementation implementation);

/// Checks the model (InvalidArgument names the layer and both numbers) and places its stages. `device` and `precision`
/// decide which layers are fused; `first_head_layer` is a boundary that no fused stage crosses (0: none). Layers that
/// are unfused or the vendor's stand alone.
ModelLayout lay_out(const Model& model, Device device, int first_head_layer,
                    const LayerImplementations& implementations = {}, Precision precision = Precision::float32);

// The rows' functions for any stage.
Shape output(const Stage& stage, Shape input);
int parameters(const Stage& stage, Shape input);
std::int64_t record(const Stage& stage, const Geometry& geometry);
std::int64_t tangent_record(const Stage& stage, const Geometry& geometry);
std::int64_t multiply_adds(const Stage& stage, Shape input);
std::int64_t scratch(const Stage& stage, const Geometry& geometry, Device device);
double reduction_factor(const Loss& loss, int outputs, int rows);
bool is_classification(const Loss& loss);

}  // namespace cumeta
