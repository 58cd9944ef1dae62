// SPDX-License-Identifier: Apache-2.0
// What a run computes, decided once: model, algorithm and sizes turned into stages, rates, engines and result rows.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cumeta/algorithms.h"
#include "cumeta/plan.h"
#include "kernels/outer_step.h"
#include "kernels/programs/mlp_program.h"
#include "src/engine.h"
#include "src/model_layout.h"

namespace cumeta {

/// update: the meta-gradient; gradient: the same, and it keeps the adapted parameters and measures Reptile's query set;
/// evaluation: query loss and hits after every inner step.
enum class Goal { update, gradient, evaluation };

struct Problem {
  Model model;
  Algorithm algorithm;
  Device device = Device::cpu;
  Precision precision = Precision::float32;
  TaskSizes sizes;
  Goal goal = Goal::update;
  Statistics query_statistics = Statistics::batch;

  ModelLayout layout;
  int steps = 0;
  Order order = Order::second;
  bool learned_rates = false;
  int rate_rows = 1;   ///< 1, or one per step
  int head_stage = 0;  ///< stages below it have no adapted parameter: their features are computed once per task
  int head_offset = 0;
  int batch = 0;  ///< support rows of one inner step
  /// The first support row that inner step k sees.
  int first_row_of(int k) const { return static_cast<int>(std::int64_t{k} * batch % sizes.support); }

  /// The inner loop in one piece, where the model is a small one, the device is CUDA and the algorithm a descent. It
  /// computes in float32.
  std::optional<MlpProgram> program;

  /// Ranges of the flat vector that the inner loop changes.
  std::vector<TiedGroup> adapted;
  /// The parameter arrays in them, one by one.
  std::vector<TiedGroup> adapted_arrays;
  /// What shares one learned rate, as ranges of a rate row.
  std::vector<TiedGroup> tied;

  EngineSizes support, query;            ///< the head's, or the whole model's when head_stage is 0
  EngineSizes body_support, body_query;  ///< the body's

  int meta_size() const { return layout.parameters + (learned_rates ? rate_rows * layout.parameters : 0); }
  bool second_order() const { return order == Order::second && steps > 0; }
  bool has_body() const { return head_stage > 0; }
  bool is_reptile() const { return std::holds_alternative<Reptile>(algorithm); }
  const Reptile* inner_adam() const;
  bool carries_second_moment() const;
  /// Rows [first_query_row, support + query) of a task are what the query engines see.
  int first_query_row() const { return query_statistics == Statistics::support ? 0 : sizes.support; }
  int query_rows() const { return sizes.support + sizes.query - first_query_row(); }
  RowLayout row() const;
};

/// Where it computes, and in what.
struct Place {
  Device device;
  Precision precision;
  Place(Device d, Precision p = Precision::float32) : device(d), precision(p) {}
};

/// Everything is checked here; the messages name the key and both numbers. steps < 0: the algorithm's own.
Problem make_problem(const Model& model, const Algorithm& algorithm, const TaskSizes& sizes, const Place& place,
                     Goal goal, Statistics query_statistics, int steps = -1,
                     const LayerImplementations& implementations = {});
/// Whether a backend has to load cuBLAS and cuDNN.
constexpr bool calls_vendor(Implementation i) { return i == Implementation::vendor || i == Implementation::fastest; }
/// Throws InvalidArgument for a device or a precision that has no other kernels than its own.
void check_implementation(const Place& place, Implementation implementation);

/// [rate_rows][P]: zero where nothing adapts.
std::vector<double> initial_rates(const Problem& problem);
/// What keeps these rates [rate_rows][P] from being used, empty when nothing does: they are finite, zero outside the
/// adapted set, and equal where they share one learned rate.
std::string wrong_rates(const Problem& problem, std::span<const double> rates);
/// Throws InvalidArgument where a pass over so many rows of one task counts beyond its integers.
void check_rows(const Problem& problem, std::int64_t rows, const std::string& what);
/// Names of the parameters that the inner loop changes.
std::vector<std::string> adapted_names(const Model& model, const Problem& problem);
/// How batch norms of the model take their statistics; batch when there is none.
Statistics statistics_of(const Model& model);

}  // namespace cumeta
