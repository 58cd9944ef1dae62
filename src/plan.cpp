// SPDX-License-Identifier: Apache-2.0
// The plan: how a meta-update is cut into chunks, and what it costs.
//   F = c1 + c, B = c1 + 2c, HVP = 2 c1 + 6c multiply-adds per example (c1 the first layer with parameters, c the rest)
#include "src/plan.h"

#include <fmt/format.h>

#include <optional>

#include "cumeta/error.h"
#include "src/launches.h"

namespace cumeta {

namespace {

struct MultiplyAdds {
  double forward = 0, backward = 0, hessian = 0;
};
/// Per example, of stages [first, last). `input_gradient`: the first layer's dx is wanted too.
MultiplyAdds cost(const ModelLayout& layout, int first, int last, bool input_gradient) {
  MultiplyAdds m;
  bool first_layer = !input_gradient;
  for (int i = first; i < last; ++i) {
    const PlacedStage& s = layout.stages[static_cast<std::size_t>(i)];
    const auto c = static_cast<double>(multiply_adds(s.stage, s.input));
    if (c == 0) continue;
    m.forward += c, m.backward += first_layer ? c : 2 * c, m.hessian += first_layer ? 2 * c : 6 * c;
    first_layer = false;
  }
  return m;
}

double flops(const Problem& p, bool second) {
  const int stages = static_cast<int>(p.layout.stages.size());
  const MultiplyAdds head = cost(p.layout, p.head_stage, stages, p.has_body()),
                     body = cost(p.layout, 0, p.head_stage, false);
  const double S = p.batch, Q = p.query_rows(), K = p.steps;
  double per_task = 0;
  if (p.is_reptile()) {
    per_task = K * S * (head.forward + head.backward) + (p.sizes.query ? Q * head.forward : 0);
  } else {
    per_task = (K * S + Q) * (head.forward + head.backward) + (S + Q) * body.forward + Q * body.backward;
    if (second) per_task += K * S * head.hessian + S * body.backward;
  }
  return 2 * per_task * p.sizes.tasks;
}

/// Of refilling the tapes of all steps but the last: a forward pass and one back to the activations, which leaves out
/// the weights' gradients; together c1 + 2c, as much as a whole backward pass.
double refill_flops(const Problem& p) {
  const MultiplyAdds head = cost(p.layout, p.head_stage, static_cast<int>(p.layout.stages.size()), p.has_body());
  return 2 * std::max(0, p.steps - 1) * static_cast<double>(p.batch) * head.backward * p.sizes.tasks;
}

const char* kind_of(const Layer& layer) {
  struct Kind {
    const char* operator()(const Linear&) const { return "linear"; }
    const char* operator()(const Conv2d&) const { return "conv2d"; }
    const char* operator()(const BatchNorm&) const { return "batch_norm"; }
    const char* operator()(const Relu&) const { return "relu"; }
    const char* operator()(const LeakyRelu&) const { return "leaky_relu"; }
    const char* operator()(const Tanh&) const { return "tanh"; }
    const char* operator()(const MaxPool2d&) const { return "max_pool2d"; }
    const char* operator()(const GlobalAveragePool&) const { return "global_average_pool"; }
    const char* operator()(const Flatten&) const { return "flatten"; }
  };
  return std::visit(Kind{}, layer);
}

std::vector<PlannedLayers> planned_layers(const Problem& p, const Cut& cut) {
  std::vector<PlannedLayers> all;
  for (const PlacedStage& stage : p.layout.stages) {
    PlannedLayers run{stage.first_layer, stage.last_layer, {}, "own"};
    for (int i = run.first; i <= run.last; ++i) {
      if (i > run.first) run.kind += "+";
      run.kind += kind_of(p.model.layers[static_cast<std::size_t>(i)]);
    }
    if (std::holds_alternative<Vendor<Linear>>(stage.stage)) run.by = "vendor (cuBLAS)";
    if (std::holds_alternative<Vendor<Conv2d>>(stage.stage)) run.by = "vendor (cuDNN)";
    if (cut.program) run.by = "own (small-model program)";
    all.push_back(std::move(run));
  }
  return all;
}

/// A GPU's numbers say nothing of a CPU, nor the other way round.
void check_machine(const PlanOptions& options) {
  const Machine& m = options.machine;
  const bool gpu = m.compute_capability > 0 && m.shared_memory > 0;
  if (options.device == Device::cuda && !gpu)
    throw InvalidArgument(fmt::format(
        "plan: device cuda, but machine \"{}\" has compute capability {:.1f} and {} bytes of shared memory; name a "
        "GPU: cuda_machine(\"h100\"), or cuda_machine(0) for the one of this machine",
        m.name, m.compute_capability / 10.0, m.shared_memory));
  if (options.device != Device::cuda && gpu)
    throw InvalidArgument(
        fmt::format("plan: device {}, but machine \"{}\" is a GPU; take cpu_machine(), or device cuda",
                    to_string(options.device), m.name));
}

}  // namespace

void check_cut_options(Device device, std::int64_t memory_limit, int chunk) {
  if (device == Device::cuda && chunk > kMostCudaChunk)
    throw InvalidArgument(fmt::format("plan.chunk is {}; on CUDA it may be up to {}", chunk, kMostCudaChunk));
  if (chunk < 0) throw InvalidArgument(fmt::format("plan.chunk is {}; it must not be negative", chunk));
  if (memory_limit < 0)
    throw InvalidArgument(fmt::format("memory_limit is {} bytes; it must not be negative", memory_limit));
}

void check_images_fit(std::int64_t images, std::int64_t state_bytes, std::int64_t limit) {
  if (limit == 0 || images <= limit - state_bytes) return;
  throw OutOfMemory(
      fmt::format("the images of the data need {} bytes beside the learner's {}, the limit is {}; train on fewer or "
                  "smaller images, or raise memory_limit",
                  images, state_bytes, limit));
}

namespace {

std::int64_t limit_of(const PlanOptions& options) {
  return options.memory_limit > 0 ? options.memory_limit : options.machine.memory;
}

}  // namespace

Cut choose_cut(const Problem& p, const PlanOptions& options) {
  const int T = p.sizes.tasks;
  const std::int64_t limit = limit_of(options), resident = options.resident_bytes;
  const bool host = options.device != Device::cuda;
  const int cores = options.device == Device::reference ? 1 : std::max(1, options.machine.cores);
  const bool program = p.program && mlp_shared_bytes(*p.program) <= options.machine.shared_memory;
  const bool can_recompute = !program && p.goal != Goal::evaluation && p.second_order() && p.steps > 1;
  auto with = [&](int chunk, bool recompute) {
    Cut cut;
    cut.program = program;
    cut.chunk = std::min(chunk, T), cut.recompute = recompute && can_recompute;
    cut.lanes = host ? std::min(cores, cut.chunks(T)) : std::min(kCudaLanes, cut.chunks(T));
    return cut;
  };
  std::vector<bool> tapes;
  if (options.activations != Activations::recompute) tapes.push_back(false);
  if (options.activations == Activations::recompute || (options.activations == Activations::automatic && can_recompute))
    tapes.push_back(true);
  std::int64_t least = 0;
  std::vector<int> chunks;
  if (options.chunk > 0)
    chunks.push_back(options.chunk);
  else if (host)
    chunks.push_back(1);
  else
    for (int chunk = std::min(T, kMostCudaChunk); chunk >= 1; chunk = chunk == 1 ? 0 : (chunk + 1) / 2)
      chunks.push_back(chunk);
  const auto largest_that_fits = [&](Cut cut) -> std::optional<Cut> {
    for (;; --cut.lanes) {
      const std::int64_t bytes = count_bytes(p, cut, options.optimizer, options.implementation).total;
      if (limit == 0 || bytes <= limit - resident) return cut;
      least = least ? std::min(least, bytes) : bytes;
      if (options.device != Device::cpu || cut.lanes == 1) return std::nullopt;
    }
  };
  // Of what fits, the quickest by the cost law: fewer workers take more rounds, refilled tapes more work.
  const auto time_of = [&](const Cut& cut) {
    const double work = flops(p, p.second_order()) + (cut.recompute ? refill_flops(p) : 0);
    const int rounds = (cut.chunks(T) + cut.lanes - 1) / cut.lanes;
    return work * rounds;
  };
  for (int chunk : chunks) {
    std::optional<Cut> best;
    for (bool recompute : tapes)
      if (const auto cut = largest_that_fits(with(chunk, recompute)); cut && (!best || time_of(*cut) < time_of(*best)))
        best = cut;
    if (best) return *best;
  }
  throw OutOfMemory(fmt::format(
      "plan: a meta-update of {} tasks with {} + {} examples needs at least {} bytes{}, the {}; lower tasks or "
      "examples{}",
      T, p.sizes.support, p.sizes.query, least,
      resident > 0 ? fmt::format(" beside {} held by resident images or by what runs meanwhile", resident) : "",
      options.memory_limit > 0 ? fmt::format("limit is {}; raise memory_limit", limit)
                               : fmt::format("device has {}", limit),
      options.activations == Activations::store && can_recompute ? ", or set plan.activations = \"recompute\"" : ""));
}

Plan describe(const Problem& p, const Cut& cut, const PlanOptions& options) {
  Plan plan;
  plan.device = options.device, plan.precision = options.precision;
  Bytes bytes = count_bytes(p, cut, options.optimizer, options.implementation);
  plan.bytes = bytes.total, plan.arrays = std::move(bytes.arrays);
  plan.resident_bytes = options.resident_bytes;
  plan.lanes = cut.lanes, plan.chunk = cut.chunk, plan.chunks = cut.chunks(p.sizes.tasks),
  plan.recompute = cut.recompute;
  const int cores = options.device == Device::cpu ? std::max(1, options.machine.cores) : cut.lanes;
  const int last_round = plan.chunks % cut.lanes;  // memory may allow fewer lanes than there are cores
  plan.idle_cores = cores - (last_round > 0 ? last_round : cut.lanes);
  plan.order = p.order;
  plan.adapted_set = adapted_names(p.model, p);
  plan.implementation = options.implementation;
  plan.layers = planned_layers(p, cut);
  plan.flops = flops(p, p.second_order()) + (cut.recompute ? refill_flops(p) : 0);
  plan.first_order_flops = flops(p, false);
  if (options.device == Device::cuda) plan.launches = count_launches(p, cut, options.optimizer);
  return plan;
}

Plan plan(const Model& model, const Algorithm& algorithm, const TaskSizes& sizes, const PlanOptions& options) {
  check_machine(options);
  if (options.precision == Precision::tf32 && options.device == Device::cuda &&
      options.machine.compute_capability > 0 && options.machine.compute_capability < 80)
    throw InvalidArgument(fmt::format(
        "machine {} has compute capability {:.1f}, device.precision tf32 needs 8.0; choose float32 or another machine",
        options.machine.name, options.machine.compute_capability / 10.0));
  const Statistics statistics = statistics_of(model) == Statistics::support ? Statistics::support : Statistics::batch;
  check_cut_options(options.device, options.memory_limit, options.chunk);
  if (options.resident_bytes < 0)
    throw InvalidArgument(fmt::format("resident_bytes is {}; it must not be negative", options.resident_bytes));
  check_implementation({options.device, options.precision}, options.implementation);
  const Problem p = make_problem(model, algorithm, sizes, {options.device, options.precision}, Goal::update, statistics,
                                 -1, for_all_layers(model, options.implementation));
  const Cut smallest;
  const std::int64_t state =
      count_bytes(p, smallest, options.optimizer, options.implementation).total - Execution::bytes_of(p, smallest);
  if (options.resident_bytes > 0) check_images_fit(options.resident_bytes, state, limit_of(options));
  return describe(p, choose_cut(p, options), options);
}

std::string Plan::text() const {
  std::string out;
  out += fmt::format("device       {}\nprecision    {}\norder        {}\nbytes        {}\n", to_string(device),
                     to_string(precision, device), to_string(order), bytes);
  for (const PlannedArray& a : arrays) out += fmt::format("  {:<28}{:>16}\n", a.name, a.bytes);
  if (resident_bytes > 0) out += fmt::format("resident     {} bytes of images beside them\n", resident_bytes);
  out += fmt::format("chunks       {} of {} task{} on {} lane{}\n", chunks, chunk, chunk == 1 ? "" : "s", lanes,
                     lanes == 1 ? "" : "s");
  if (device == Device::cpu) out += fmt::format("idle cores   {} in the last round\n", idle_cores);
  out += fmt::format("tapes        {}\n", recompute ? "recomputed" : "stored");
  out += fmt::format("GFLOP        {:.6f} ({:.6f} in first order, ratio {:.3f})\n", flops * 1e-9,
                     first_order_flops * 1e-9, flops / first_order_flops);
  if (device != Device::cuda) return out;
  out += fmt::format("kernel nodes {}\n", launches);
  out += fmt::format("kernels      {}{}\n", to_string(implementation),
                     implementation == Implementation::vendor ? "; a call of cuBLAS or cuDNN counts as one node"
                     : implementation == Implementation::fastest
                         ? (measured ? "; as measured on this device" : "; not measured here, counted with own kernels")
                         : "");
  for (const PlannedLayers& run : layers)
    out += fmt::format("  {:<8}{:<40}{}\n",
                       run.first == run.last ? fmt::format("{}", run.first) : fmt::format("{}-{}", run.first, run.last),
                       run.kind, run.by);
  return out;
}

}  // namespace cumeta
