// SPDX-License-Identifier: Apache-2.0
#include "src/problem.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cumeta/error.h"
#include "src/parameters.h"

namespace cumeta {

namespace {

[[noreturn]] void refuse(const std::string& text) { throw InvalidArgument(text); }

int first_head_layer(const Anil& anil, const Model& model) {
  if (anil.first_adapted_layer >= static_cast<int>(model.layers.size()) || anil.first_adapted_layer < -1)
    refuse(fmt::format("algorithm.first_adapted_layer is {}; the model has layers 0 to {}", anil.first_adapted_layer,
                       model.layers.size() - 1));
  if (anil.first_adapted_layer >= 0) return anil.first_adapted_layer;
  return parameters(model).back().layer;
}

/// The boundary of the adapted set, which no fused stage crosses; 0 where no layer in front of it has parameters.
int first_adapted_layer(const std::vector<Parameter>& arrays, int head_layer) {
  for (const Parameter& a : arrays)
    if (a.adapted && a.layer >= head_layer) return a.layer > arrays.front().layer ? a.layer : 0;
  return 0;
}

void check_numbers(const Algorithm& algorithm, const TaskSizes& sizes) {
  std::visit(
      [&](const auto& a) {
        if (a.steps < 0 || a.steps > 100'000)
          refuse(fmt::format("algorithm.steps is {}; it must lie in 0 to 100000", a.steps));
        if (!std::isfinite(a.rate)) refuse(fmt::format("algorithm.rate is {}; it must be finite", a.rate));
        if constexpr (std::is_same_v<std::decay_t<decltype(a)>, Reptile>) {
          if (a.batch < 0) refuse(fmt::format("algorithm.batch is {}; it must not be negative", a.batch));
          if (!(a.beta2 >= 0 && a.beta2 < 1))
            refuse(fmt::format("algorithm.beta2 is {}; it must lie in [0, 1)", a.beta2));
          if (!(a.eps > 0) || !std::isfinite(a.eps))
            refuse(fmt::format("algorithm.eps is {}; it must be positive", a.eps));
        }
      },
      algorithm);
  if (sizes.tasks < 1) refuse(fmt::format("tasks is {}; a meta-update needs at least 1", sizes.tasks));
  if (sizes.support < 1) refuse(fmt::format("support is {} examples; a task needs at least 1", sizes.support));
  if (sizes.query < 0) refuse(fmt::format("query is {} examples; it must not be negative", sizes.query));
}

}  // namespace

const Reptile* Problem::inner_adam() const {
  const auto* reptile = std::get_if<Reptile>(&algorithm);
  return reptile && reptile->inner == Reptile::Inner::adam ? reptile : nullptr;
}
bool Problem::carries_second_moment() const {
  const Reptile* reptile = inner_adam();
  return reptile && reptile->inner_state == Reptile::InnerState::carried;
}
RowLayout Problem::row() const {
  return {meta_size(), layout.statistics, carries_second_moment() ? layout.parameters : 0, steps};
}

Statistics statistics_of(const Model& model) {
  bool found = false;
  Statistics mode = Statistics::batch;
  double momentum = 0;
  for (const Layer& layer : model.layers)
    if (const auto* norm = std::get_if<BatchNorm>(&layer)) {
      if (found && norm->statistics != mode) refuse("model: all batch_norm layers must take the same statistics");
      if (found && mode == Statistics::running && norm->momentum != momentum)
        refuse(fmt::format("model: batch_norm layers have momentum {} and {}; all must have the same", momentum,
                           norm->momentum));
      mode = norm->statistics, momentum = norm->momentum, found = true;
    }
  return mode;
}

// Rows of a task stand in an int, and where a layer's numbers lie within a task does too, padding included.
void check_rows(const Problem& p, std::int64_t rows, const std::string& what) {
  constexpr std::int64_t most = std::numeric_limits<int>::max(), most_numbers = 1'000'000'000;
  std::int64_t largest = p.model.input.size();
  for (const PlacedStage& stage : p.layout.stages) largest = std::max<std::int64_t>(largest, stage.output.size());
  if (rows > most || rows > most_numbers / largest)
    refuse(fmt::format("{} of up to {} numbers in one layer are too many for one task; take fewer", what, largest));
}

namespace {

/// CUDA's outer step keeps its tree of tasks and its tied groups in fixed places.
void check_outer_step_on_cuda(const Problem& p) {
  if (p.sizes.tasks > cuda_most_outer_tasks)
    refuse(fmt::format("tasks is {}; a meta-update on cuda holds at most {}: lower tasks", p.sizes.tasks,
                       cuda_most_outer_tasks));
  const auto groups = static_cast<std::size_t>(p.rate_rows) * p.tied.size();
  if (groups > cuda_most_tied_groups)
    refuse(
        fmt::format("algorithm: {} arrays x {} steps are {} learned rates; cuda holds at most {}: unset rate_per_step "
                    "or rate_per_layer, or lower steps",
                    p.tied.size(), p.rate_rows, groups, cuda_most_tied_groups));
}

/// The same problem as a small-model program. Its rates of 0 stand for the body's.
std::optional<MlpProgram> program_of(const Problem& p) {
  std::vector<Stage> stages;
  for (const PlacedStage& placed : p.layout.stages) stages.push_back(placed.stage);
  std::optional<MlpProgram> program = mlp_program_of(stages, p.model.input, p.model.loss);
  if (!program) return program;
  program->support = p.sizes.support, program->query = p.sizes.query;
  program->steps = p.steps, program->second_order = p.second_order();
  program->learned_rates = p.learned_rates, program->rate_rows = p.rate_rows;
  program->support_factor = static_cast<float>(p.support.factor);
  for (int i = 0; i < program->layers; ++i) {
    MlpLayer& layer = program->layer[i];
    layer.adapted = 0;
    for (const TiedGroup& range : p.adapted)
      if (layer.offset >= range.begin && layer.offset < range.end) layer.adapted = 1;
  }
  return program;
}

}  // namespace

Problem make_problem(const Model& model, const Algorithm& algorithm, const TaskSizes& sizes, const Place& place,
                     Goal goal, Statistics query_statistics, int steps, const LayerImplementations& implementations) {
  check_numbers(algorithm, sizes);
  if (place.precision == Precision::tf32 && place.device != Device::cuda)
    refuse(
        fmt::format("device.precision is tf32, device.kind is {}; only cuda computes in it: choose float32 or "
                    "device.kind = \"cuda\"",
                    to_string(place.device)));
  statistics_of(model);
  Problem p;
  p.model = model, p.algorithm = algorithm, p.sizes = sizes, p.goal = goal;
  p.device = place.device, p.precision = place.precision;
  p.query_statistics = query_statistics;
  p.order = order_of(algorithm);
  p.steps = steps >= 0 ? steps : steps_of(algorithm);

  int head_layer = 0;
  bool per_layer = false;
  if (const auto* maml = std::get_if<Maml>(&algorithm)) {
    p.learned_rates = maml->rate_learned;
    p.rate_rows = maml->rate_per_step ? std::max(1, maml->steps) : 1;
    per_layer = maml->rate_per_layer;
  } else if (const auto* anil = std::get_if<Anil>(&algorithm)) {
    head_layer = first_head_layer(*anil, model);
  } else if (std::holds_alternative<MetaSgd>(algorithm)) {
    p.learned_rates = true;
  }
  const auto arrays = parameters(model);
  p.layout = lay_out(model, place.device, first_adapted_layer(arrays, head_layer), implementations, place.precision);
  if (p.steps > 100'000) refuse(fmt::format("steps is {}; it must lie in 0 to 100000", p.steps));
  if (p.learned_rates && std::int64_t{p.rate_rows + 1} * p.layout.parameters > 1'000'000'000)
    refuse(fmt::format("algorithm: {} rates for each of {} parameters are more than {} numbers in all", p.rate_rows,
                       p.layout.parameters, 1'000'000'000));
  check_rows(p, std::int64_t{sizes.support} + sizes.query, fmt::format("{} + {} examples", sizes.support, sizes.query));
  if (query_statistics == Statistics::running && p.layout.statistics == 0)
    refuse("statistics running: the model's batch_norm layers keep none; train with statistics = \"running\"");

  for (const Parameter& a : arrays) {
    if (!a.adapted || a.layer < head_layer) continue;
    p.adapted_arrays.push_back({a.offset, a.offset + a.size});
    if (!p.adapted.empty() && p.adapted.back().end == a.offset)
      p.adapted.back().end += a.size;
    else
      p.adapted.push_back({a.offset, a.offset + a.size});
    if (p.learned_rates && per_layer) p.tied.push_back({a.offset, a.offset + a.size});
  }
  if (const auto* maml = std::get_if<Maml>(&algorithm); maml && !maml->rates.empty()) {
    const std::size_t wanted =
        static_cast<std::size_t>(p.rate_rows) * (maml->rate_per_layer ? p.adapted_arrays.size() : 1);
    if (maml->rates.size() != wanted)
      refuse(
          fmt::format("algorithm.rates has {} numbers, {} needed: {} step{} (rate_per_step {}) times {} array{} "
                      "(rate_per_layer {})",
                      maml->rates.size(), wanted == 1 ? "1 is" : fmt::format("{} are", wanted), p.rate_rows,
                      p.rate_rows == 1 ? "" : "s", maml->rate_per_step, wanted / static_cast<std::size_t>(p.rate_rows),
                      wanted == static_cast<std::size_t>(p.rate_rows) ? "" : "s", maml->rate_per_layer));
    for (const double rate : maml->rates)
      if (!std::isfinite(rate)) refuse(fmt::format("algorithm.rates holds {}; every rate must be finite", rate));
  }
  if (p.adapted.empty() && p.steps > 0) refuse("model: no parameter is adapted, yet algorithm.steps is positive");
  if (std::holds_alternative<Maml>(algorithm) && p.learned_rates && !per_layer) {
    if (p.adapted.size() > 1)
      refuse(
          "algorithm: one learned rate for all parameters needs the adapted layers to be neighbours; set "
          "rate_per_layer");
    p.tied = p.adapted;
  }

  if (place.device == Device::cuda && goal != Goal::evaluation) check_outer_step_on_cuda(p);

  // The body: stages in front of the first adapted parameter.
  const int first_adapted = p.adapted.empty() ? 0 : p.adapted.front().begin;
  while (p.steps > 0 && p.head_stage < static_cast<int>(p.layout.stages.size())) {
    const PlacedStage& stage = p.layout.stages[static_cast<std::size_t>(p.head_stage)];
    if (stage.offset + stage.size > first_adapted) break;
    ++p.head_stage;
  }
  bool body_has_parameters = false;
  for (int i = 0; i < p.head_stage; ++i) body_has_parameters |= p.layout.stages[static_cast<std::size_t>(i)].size > 0;
  if (!body_has_parameters || p.is_reptile()) p.head_stage = 0;
  p.head_offset = p.head_stage ? p.layout.stages[static_cast<std::size_t>(p.head_stage)].offset : 0;

  p.batch = sizes.support;
  if (const auto* reptile = std::get_if<Reptile>(&algorithm); reptile && reptile->batch > 0) {
    if (sizes.support % reptile->batch != 0)
      refuse(fmt::format(
          "reptile's mini-batch is {}; it must divide the {} support examples (0: all of them in every step)",
          reptile->batch, sizes.support));
    p.batch = reptile->batch;
  }
  if (sizes.query == 0 && !p.is_reptile()) refuse("query is 0 examples; only reptile trains without a query set");

  if (p.layout.statistics && sizes.query == 0) refuse("statistics running: a query set is needed to take them from");
  const int stages = static_cast<int>(p.layout.stages.size());
  const double support_factor = reduction_factor(model.loss, p.layout.outputs, p.batch);
  p.support = {p.head_stage, stages, p.batch, p.batch, 0, support_factor};
  const int first = p.first_query_row(), rows = p.query_rows();
  const int statistics_rows = query_statistics == Statistics::running   ? 0
                              : query_statistics == Statistics::support ? sizes.support
                                                                        : rows;
  p.query = {p.head_stage, stages, rows, statistics_rows, sizes.support - first, 1};
  p.body_support = {0, p.head_stage, sizes.support, sizes.support, 0, 1};
  p.body_query = {0, p.head_stage, rows, statistics_rows, 0, 1};
  const bool float32 = place.precision == Precision::float32;
  const bool all_own = std::all_of(implementations.begin(), implementations.end(),
                                   [](Implementation one) { return one == Implementation::own; });
  if (place.device == Device::cuda && float32 && all_own && goal != Goal::evaluation && !p.is_reptile())
    p.program = program_of(p);
  return p;
}

std::string wrong_rates(const Problem& p, std::span<const double> rates) {
  const auto P = static_cast<std::size_t>(p.layout.parameters);
  std::vector<bool> adapted(P, false);
  for (const TiedGroup& range : p.adapted) std::fill(adapted.begin() + range.begin, adapted.begin() + range.end, true);
  for (std::size_t i = 0; i < rates.size(); ++i) {
    if (!std::isfinite(rates[i])) return fmt::format("rate {} is {}; it must be finite", i, rates[i]);
    if (adapted[i % P] || rates[i] == 0) continue;
    std::string owner;
    for (const Parameter& a : parameters(p.model))
      if (static_cast<std::size_t>(a.offset) <= i % P) owner = a.name;
    return fmt::format("rate {} is {}, but the inner loop does not adapt {}; it must be 0", i, rates[i], owner);
  }
  for (std::size_t row = 0; row < rates.size(); row += P)
    for (const TiedGroup& group : p.tied)
      for (std::size_t i = row + static_cast<std::size_t>(group.begin) + 1;
           i < row + static_cast<std::size_t>(group.end); ++i)
        if (rates[i] != rates[i - 1])
          return fmt::format("rate {} is {}, rate {} is {}; they are one learned rate and must be equal", i - 1,
                             rates[i - 1], i, rates[i]);
  return {};
}

std::vector<std::string> adapted_names(const Model& model, const Problem& p) {
  std::vector<std::string> names;
  for (const Parameter& a : parameters(model))
    for (const TiedGroup& range : p.adapted)
      if (p.steps > 0 && a.offset >= range.begin && a.offset < range.end) names.push_back(a.name);
  return names;
}

void check_implementation(const Place& place, Implementation implementation) {
  if (implementation == Implementation::own) return;
  if (place.device != Device::cuda)
    refuse(fmt::format("plan.implementation is {}; device {} has only its own kernels: choose own, or device cuda",
                       to_string(implementation), to_string(place.device)));
  if (implementation != Implementation::unfused && place.precision != Precision::float32)
    refuse(
        fmt::format("plan.implementation is {}, device.precision {}; the vendor's libraries are called in float32 "
                    "only: choose own or unfused, or float32",
                    to_string(implementation), to_string(place.precision, place.device)));
}

std::vector<double> initial_rates(const Problem& p) {
  const double rate = std::visit([](const auto& a) { return a.rate; }, p.algorithm);
  const auto P = static_cast<std::size_t>(p.layout.parameters), rows = static_cast<std::size_t>(p.rate_rows);
  std::vector<double> rates(rows * P, 0.0);
  const auto fill = [&](std::size_t row, int begin, int end, double value) {
    std::fill(rates.begin() + static_cast<std::ptrdiff_t>(row * P) + begin,
              rates.begin() + static_cast<std::ptrdiff_t>(row * P) + end, value);
  };
  const auto* maml = std::get_if<Maml>(&p.algorithm);
  const std::size_t arrays = maml && maml->rate_per_layer ? p.adapted_arrays.size() : 1;
  for (std::size_t row = 0; row < rows; ++row)
    for (std::size_t i = 0; i < p.adapted_arrays.size(); ++i)
      fill(row, p.adapted_arrays[i].begin, p.adapted_arrays[i].end,
           maml && !maml->rates.empty() ? maml->rates[row * arrays + std::min(i, arrays - 1)] : rate);
  return rates;
}

}  // namespace cumeta
