// SPDX-License-Identifier: Apache-2.0
// Adapting to one support set of any size, and predicting with what came out: memory is taken once.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cumeta/error.h"
#include "src/algorithms/unrolled.h"
#include "src/learner_impl.h"

namespace cumeta {

namespace {

/// Rows of a prediction's forward pass behind the support rows: inductive statistics do not depend on them.
constexpr int prediction_rows = 32;

/// One forward pass of the whole model over `rows` rows, in its own memory.
struct Forward {
  EngineSizes sizes;
  std::shared_ptr<std::byte> block;
  std::int64_t bytes = 0;
  Array x;
  Tape tape;
  std::unique_ptr<Engine> engine;

  /// `used` bytes of `limit` (0: none) are taken.
  Forward(Backend& backend, const Problem& p, const EngineSizes& engine_sizes, std::int64_t used, std::int64_t limit)
      : sizes(engine_sizes) {
    Array scratch;
    auto take = [&](Arena& arena) {
      x = arena.take("examples", 1, std::int64_t{sizes.examples} * p.model.input.size());
      tape = take_tape(arena, "values", p.layout, sizes, 1, false);
      scratch = arena.take("scratch", 1, engine_scratch(p.layout, sizes, p.device));
    };
    Arena dry(backend.number());
    take(dry);
    bytes = dry.bytes();
    if (limit > 0 && bytes > limit - used)
      throw OutOfMemory(fmt::format(
          "predict: a pass over {} rows needs {} bytes beside {}, the limit is {}; predict fewer rows in one "
          "call, with statistics support or running, or raise memory_limit",
          sizes.examples, bytes, used, limit));
    block = backend.allocate(static_cast<std::size_t>(bytes));
    Arena arena(backend.number(), block.get());
    take(arena);
    engine = std::make_unique<Engine>(backend.lane(0), p.layout, p.model.loss, sizes, scratch);
  }
};

}  // namespace

struct AdaptedTask::Impl {
  std::shared_ptr<Backend> backend;
  Problem problem;
  std::shared_ptr<std::byte> block;
  std::int64_t own_bytes = 0, adaptation_bytes = 0;
  std::int64_t learner_bytes = 0, limit = 0;  ///< the learner's state, and its limit for that and for this task
  Array weights, running;
  std::vector<std::string> adapted_set;
  std::vector<float> support_x;
  std::vector<double> parameters;
  double support_loss = std::numeric_limits<double>::quiet_NaN();
  std::unique_ptr<Forward> inductive, transductive;

  std::int64_t prediction_bytes() const {
    return (inductive ? inductive->bytes : 0) + (transductive ? transductive->bytes : 0);
  }
  /// The pass of these sizes: the one that is kept, or another in its place.
  Forward& pass(std::unique_ptr<Forward>& kept, const EngineSizes& sizes) {
    if (kept && kept->sizes.examples == sizes.examples) return *kept;
    kept.reset();
    kept = std::make_unique<Forward>(*backend, problem, sizes, learner_bytes + own_bytes + prediction_bytes(), limit);
    return *kept;
  }

  /// Outputs of `count` rows from `first` on of a pass over `x`.
  void run(Forward& f, std::span<const float> x, int first, int count, std::vector<float>& out, Statistics statistics) {
    backend->upload(x, f.x);
    if (statistics == Statistics::running)
      for (std::size_t i = 0; i < f.engine->stages().size(); ++i) {
        const PlacedStage& stage = f.engine->stages()[i];
        if (stage.statistics_size)
          backend->lane(0).statistics_to_record(
              f.tape.r[i].slice(stage.norm_record_at({stage.input, f.sizes.examples, f.sizes.statistics_rows}),
                                stage.statistics_size),
              running.slice(stage.statistics_at, stage.statistics_size), stage.norm()->eps);
      }
    f.engine->forward(1, weights, f.x, f.tape);
    std::vector<double> y(static_cast<std::size_t>(f.tape.y.back().size));
    backend->download(f.tape.y.back(), y);
    const auto outputs = static_cast<std::ptrdiff_t>(problem.layout.outputs);
    for (auto from = y.begin() + first * outputs, end = from + count * outputs; from != end; ++from)
      out.push_back(static_cast<float>(*from));
  }
};

AdaptedTask::AdaptedTask(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
AdaptedTask::AdaptedTask(AdaptedTask&&) noexcept = default;
AdaptedTask& AdaptedTask::operator=(AdaptedTask&&) noexcept = default;
AdaptedTask::~AdaptedTask() = default;

AdaptedTask Learner::adapt(const Examples& support, int steps) {
  Impl& im = *impl_;
  if (support.count < 1)
    throw InvalidArgument(fmt::format("support has {} examples; at least 1 is needed", support.count));
  im.check({1, support, {}}, false);
  // The evaluation's problem with one query row that nobody looks at: the same inner loop, whatever the algorithm.
  const auto prepared =
      im.prepare({1, support.count, 1}, Goal::evaluation, Statistics::batch, steps < 0 ? im.shape.steps : steps);
  const Learner::Impl::Prepared& p = *prepared;
  const std::vector<float> zeros_x(static_cast<std::size_t>(im.model.input.size()), 0.0F);
  const std::vector<float> zeros_t(static_cast<std::size_t>(im.shape.layout.targets), 0.0F);
  im.run(*prepared, {1, support, {1, zeros_x, zeros_t}}, 0);

  const Problem& problem = p.execution->problem();
  auto task = std::make_unique<AdaptedTask::Impl>();
  task->backend = im.backend, task->problem = problem;
  task->adapted_set = adapted_names(im.model, problem), task->adaptation_bytes = p.execution->bytes();
  task->learner_bytes = im.state_bytes, task->limit = im.memory_limit();
  const int P = problem.layout.parameters;
  auto take = [&](Arena& arena) {
    task->weights = arena.take("adapted weights", 1, P);
    task->running = arena.take("running statistics", 1, problem.layout.statistics);
  };
  Arena dry(im.backend->number());
  take(dry);
  task->own_bytes = dry.bytes();
  task->block = im.backend->allocate(static_cast<std::size_t>(task->own_bytes));
  Arena arena(im.backend->number(), task->block.get());
  take(arena);
  Lane& lane = im.backend->lane(0);
  lane.copy(im.state.meta.slice(0, P), task->weights);
  if (problem.steps > 0) {
    const int head = problem.head_offset;
    lane.copy(p.execution->memory().lanes[0].weights.back().slice(head, P - head), task->weights.slice(head, P - head));
  }
  if (im.state.running) lane.copy(im.state.running, task->running);
  task->parameters = im.download(task->weights);
  if (problem.steps > 0) task->support_loss = im.download(p.execution->memory().rows).back();
  if (im.options.on_nonfinite == OnNonFinite::stop) {
    const bool loss = problem.steps == 0 || std::isfinite(task->support_loss);
    if (!loss ||
        !std::all_of(task->parameters.begin(), task->parameters.end(), [](double w) { return std::isfinite(w); }))
      throw NonFinite(
          fmt::format("adapt: {} not finite after {} steps on {} examples; take fewer steps, lower the inner rate, or "
                      "set on_nonfinite = \"skip\"",
                      loss ? "adapted parameters are" : "the support loss is", problem.steps, support.count));
  }
  task->support_x.assign(support.x.begin(), support.x.end());
  return AdaptedTask(std::move(task));
}

std::vector<float> AdaptedTask::predict(std::span<const float> x) {
  const bool running = statistics_of(impl_->problem.model) == Statistics::running;
  return predict(x, running ? Statistics::running : Statistics::support);
}

std::vector<float> AdaptedTask::predict(std::span<const float> x, Statistics statistics) {
  Impl& im = *impl_;
  const Problem& p = im.problem;
  const auto in = static_cast<std::size_t>(p.model.input.size());
  if (x.size() % in != 0)
    throw InvalidArgument(fmt::format("predict: {} numbers are no whole number of examples of {}", x.size(), in));
  if (statistics == Statistics::running && p.layout.statistics == 0)
    throw InvalidArgument("predict: the model keeps no running statistics; train with statistics = \"running\"");
  const std::size_t count = x.size() / in;
  std::vector<float> out;
  if (count == 0) return out;
  const int stages = static_cast<int>(p.layout.stages.size());
  if (statistics == Statistics::batch && p.layout.has_batch_norm) {  // every row counts, so all go at once
    check_rows(p, static_cast<std::int64_t>(count), fmt::format("predict: {} examples", count));
    const auto rows = static_cast<int>(count);
    im.run(im.pass(im.transductive, {0, stages, rows, rows, 0, 1}), x, 0, rows, out, statistics);
    return out;
  }
  // The support rows go along for their statistics; where nothing asks for them, they stay out.
  const bool wanted = statistics == Statistics::support && p.layout.has_batch_norm;
  const int support = wanted ? static_cast<int>(im.support_x.size() / in) : 0;
  Forward& pass = im.pass(im.inductive, {0, stages, support + prediction_rows, support, 0, 1});
  std::vector<float> rows(static_cast<std::size_t>(support + prediction_rows) * in, 0.0F);
  if (wanted) std::copy(im.support_x.begin(), im.support_x.end(), rows.begin());
  for (std::size_t first = 0; first < count; first += prediction_rows) {
    const auto now = static_cast<int>(std::min<std::size_t>(prediction_rows, count - first));
    std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(first * in), static_cast<std::size_t>(now) * in,
                rows.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(support) * in));
    im.run(pass, rows, support, now, out, statistics);
  }
  return out;
}

const std::vector<double>& AdaptedTask::parameters() const { return impl_->parameters; }
double AdaptedTask::support_loss() const { return impl_->support_loss; }
Order AdaptedTask::order() const { return impl_->problem.order; }
int AdaptedTask::steps() const { return impl_->problem.steps; }
const std::vector<std::string>& AdaptedTask::adapted_set() const { return impl_->adapted_set; }
std::int64_t AdaptedTask::bytes() const {
  return impl_->own_bytes + impl_->adaptation_bytes + impl_->prediction_bytes();
}

}  // namespace cumeta
