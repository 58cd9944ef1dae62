// SPDX-License-Identifier: Apache-2.0
// The door: every call is checked here once, then planned, run and reported.
#include "cumeta/learner.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <set>

#include "cumeta/error.h"
#include "src/cuda_plugin.h"
#include "src/fastest.h"
#include "src/learner_impl.h"
#include "src/parameters.h"

namespace cumeta {

namespace {

void check_options(const Options& o) {
  auto refuse = [](const char* key, double value, const char* rule) {
    throw InvalidArgument(fmt::format("{} is {}; it must {}", key, value, rule));
  };
  std::visit(
      [&](const auto& optimizer) {
        if (!(optimizer.rate >= 0) || !std::isfinite(optimizer.rate))
          refuse("optimizer.rate", optimizer.rate, "be finite and not negative");
        if constexpr (std::is_same_v<std::decay_t<decltype(optimizer)>, Adam>) {
          if (!(optimizer.beta1 >= 0 && optimizer.beta1 < 1))
            refuse("optimizer.beta1", optimizer.beta1, "lie in [0, 1)");
          if (!(optimizer.beta2 >= 0 && optimizer.beta2 < 1))
            refuse("optimizer.beta2", optimizer.beta2, "lie in [0, 1)");
          if (!(optimizer.eps > 0)) refuse("optimizer.eps", optimizer.eps, "be positive");
        } else if (!(optimizer.momentum >= 0 && optimizer.momentum < 1)) {
          refuse("optimizer.momentum", optimizer.momentum, "lie in [0, 1)");
        }
      },
      o.optimizer);
  if (o.schedule.kind != Schedule::Kind::constant && o.schedule.updates < 1)
    refuse("schedule.updates", static_cast<double>(o.schedule.updates), "be positive");
  if (!(o.schedule.final_rate >= 0) || !std::isfinite(o.schedule.final_rate))
    refuse("schedule.final_rate", o.schedule.final_rate, "be finite and not negative");
  if (!(o.clip.value >= 0)) refuse("clip.value", o.clip.value, "not be negative");
  if (!(o.clip.norm >= 0)) refuse("clip.norm", o.clip.norm, "not be negative");
  if (o.tasks < 1) refuse("tasks", o.tasks, "be positive");
  if (o.ordinal != 0 && o.device != Device::cuda)
    throw InvalidArgument(
        fmt::format("device.ordinal is {}, device.kind is {}; only CUDA devices have numbers: leave it 0, or choose "
                    "device cuda",
                    o.ordinal, to_string(o.device)));
  check_implementation({o.device, o.precision}, o.implementation);
  if (o.threads < 0 || o.threads > 4096) refuse("threads", o.threads, "lie in 0 to 4096");
  check_cut_options(o.device, o.memory_limit, o.chunk);
}

}  // namespace

std::shared_ptr<Backend> open_backend(const Options& options) {
  switch (options.device) {
    case Device::reference:
      return open_reference();
    case Device::cpu:
      return open_cpu(options.threads > 0 ? options.threads : cpu_machine().cores, options.pin);
    case Device::cuda:
      return open_cuda({.ordinal = options.ordinal,
                        .lanes = kCudaLanes,
                        .tf32 = options.precision == Precision::tf32,
                        .vendor = calls_vendor(options.implementation)});
  }
  throw InvalidArgument("unknown device");
}

Learner::Impl::Impl(const Model& m, const Algorithm& a, const Options& o) : model(m), algorithm(a), options(o) {
  check_options(options);
  implementations = for_all_layers(model, options.implementation);
  const auto* reptile = std::get_if<Reptile>(&algorithm);
  shape = make_problem(model, algorithm, {1, reptile ? std::max(1, reptile->batch) : 1, 1}, place(), Goal::evaluation,
                       Statistics::batch);
  shape.goal = Goal::update;
  adapted_set = adapted_names(model, shape);
  // What is free before the backend takes its own, which the plan counts.
  machine = options.device == Device::cuda ? cuda_machine(options.ordinal) : cpu_machine(options.threads);
  backend = open_backend(options);
  if (options.device == Device::cpu) machine.cores = backend->lanes();  // the affinity may change, the pool does not
  Arena dry(backend->number());
  take_state(dry, shape, options.optimizer);
  state_bytes = dry.bytes() + backend->own_bytes();
  const std::int64_t limit = memory_limit();
  if (limit > 0 && state_bytes > limit)
    throw OutOfMemory(
        fmt::format("{} parameters with the state of their optimizer need {} bytes, the limit is {}; "
                    "make the model smaller or raise memory_limit",
                    shape.layout.parameters, state_bytes, limit));
  state_block = backend->allocate(static_cast<std::size_t>(dry.bytes()));
  Arena arena(backend->number(), state_block.get());
  state = take_state(arena, shape, options.optimizer);

  for (const Array row : {state.meta, state.control, state.reports}) clear(row);
  backend->upload(initial_parameters(model, options.seed), state.meta.slice(0, shape.layout.parameters));
  backend->upload(initial_rates(shape), state.rates);
  start_run();
}

void Learner::Impl::clear(Array row) {
  if (!row) return;
  const auto numbers = static_cast<std::size_t>(row.size) * static_cast<std::size_t>(row.tasks);
  backend->upload(std::vector<double>(numbers, 0.0), row);
}

void Learner::Impl::start_run() {
  for (const Array row : {state.first, state.second, state.inner_second, state.halted, state.applied}) clear(row);
  updates = skipped = 0;
  if (state.running) {  // mean 0, variance 1, as everywhere
    std::vector<double> initial(static_cast<std::size_t>(shape.layout.statistics), 0.0);
    for (const PlacedStage& stage : shape.layout.stages)
      for (int i = stage.statistics_size / 2; i < stage.statistics_size; ++i)
        initial[static_cast<std::size_t>(stage.statistics_at + i)] = 1;
    backend->upload(initial, state.running);
  }
}

Statistics Learner::Impl::training_statistics() const {
  return statistics_of(model) == Statistics::support ? Statistics::support : Statistics::batch;
}

PlanOptions Learner::Impl::plan_options() const {
  PlanOptions o;
  o.device = options.device, o.precision = options.precision;
  o.machine = machine, o.optimizer = options.optimizer;
  o.memory_limit = options.memory_limit, o.resident_bytes = resident_bytes;
  o.chunk = options.chunk, o.activations = options.activations;
  o.implementation = options.implementation;
  return o;
}

void Learner::Impl::choose_layers(const TaskSizes& sizes, Goal goal, Statistics statistics, int steps) {
  if (options.implementation != Implementation::fastest || measured) return;
  // A small model stays the one kernel that it is: no call of a library fits into it.
  bool program = false;
  if (!shape.is_reptile()) {
    const Problem update = make_problem(model, algorithm, sizes, place(), Goal::update, training_statistics(), -1);
    program = update.program && mlp_shared_bytes(*update.program) <= machine.shared_memory;
  }
  if (program) {
    implementations = for_all_layers(model, Implementation::own);
  } else {
    const auto problem = [&](Implementation implementation) {
      return make_problem(model, algorithm, sizes, place(), goal, statistics, steps,
                          for_all_layers(model, implementation));
    };
    const Problem own = problem(Implementation::own);
    implementations = measure_fastest(
        *backend, own, {problem(Implementation::unfused), problem(Implementation::vendor)},
        choose_cut(own, plan_options()).chunk,
        memory_limit() > 0 ? std::max<std::int64_t>(1, memory_limit() - state_bytes - resident_bytes) : 0);
  }
  measured = true;
}

void Learner::Impl::adopt(LayerImplementations layers) {
  implementations = std::move(layers), measured = true;
  prepared_.clear();  // they may be laid out otherwise
}

std::int64_t Learner::Impl::block_bytes(bool busy_only) const {
  std::set<const std::byte*> counted;
  std::int64_t bytes = 0;
  for (const auto& [key, prepared] : prepared_) {
    const Block& block = prepared->execution->block();
    if ((!busy_only || prepared.use_count() > 1) && counted.insert(block.data.get()).second) bytes += block.bytes;
  }
  return bytes;
}

void Learner::Impl::evict_for(std::int64_t bytes, std::int64_t limit) {
  constexpr std::size_t most = 4;  // shapes change rarely; memory matters more
  for (auto it = prepared_.begin(); it != prepared_.end();) {
    const bool room = (limit == 0 || bytes + resident_bytes + block_bytes(false) <= limit) && prepared_.size() < most;
    if (room) return;
    if (it->second.use_count() > 1)  // a train call is inside its report
      ++it;
    else
      it = prepared_.erase(it);
  }
}

Block Learner::Impl::block_for(std::int64_t needed, std::int64_t limit) {
  for (const auto& [key, prepared] : prepared_)
    if (Block block = prepared->execution->block(); block.bytes >= needed) {
      evict_for(state_bytes, limit);  // takes no more memory, but a place
      return block;
    }
  std::erase_if(prepared_, [](const auto& entry) { return entry.second.use_count() == 1; });
  evict_for(state_bytes + needed, limit);
  return {backend->allocate(static_cast<std::size_t>(needed)), needed};
}

std::shared_ptr<Learner::Impl::Prepared> Learner::Impl::prepare(const TaskSizes& sizes, Goal goal,
                                                                Statistics statistics, int steps,
                                                                std::uint64_t episodes) {
  const auto key = std::make_tuple(sizes.tasks, sizes.support, sizes.query, goal, statistics, steps, episodes);
  if (auto found = prepared_.find(key); found != prepared_.end()) return found->second;
  choose_layers(sizes, goal, statistics, steps);
  const Problem problem = make_problem(model, algorithm, sizes, place(), goal, statistics, steps, implementations);
  // The limit is the learner's: what runs meanwhile has taken its part, what only waits makes room.
  PlanOptions plan = plan_options();
  plan.resident_bytes += block_bytes(true);
  const Cut cut = choose_cut(problem, plan);
  Block block = block_for(Execution::bytes_of(problem, cut), memory_limit());
  auto prepared = std::make_shared<Prepared>();
  Prepared& p = *prepared;
  p.execution = std::make_unique<Execution>(*backend, problem, cut, state, std::move(block));
  if (goal != Goal::evaluation) {
    OuterStep& s = p.step;
    s.layout = problem.row();
    s.rows = p.execution->memory().rows, s.mean = p.execution->memory().mean;
    for (int k = 0; k < problem.rate_rows; ++k)  // in ascending order, as outer_step wants them
      for (const TiedGroup& group : problem.tied) {
        const int at = problem.layout.parameters * (1 + k);
        s.tied.push_back({at + group.begin, at + group.end});
      }
    s.control = state.control, s.reports = state.reports, s.halted = state.halted, s.applied = state.applied;
    s.halt_on_nonfinite = options.on_nonfinite == OnNonFinite::stop;
    if (goal == Goal::update) {
      if (const auto* adam = std::get_if<Adam>(&options.optimizer)) {
        s.rule = OuterStep::Rule::adam;
        s.beta1 = adam->beta1, s.beta2 = adam->beta2, s.eps = adam->eps;
      } else {
        s.rule = OuterStep::Rule::sgd;
        s.momentum = std::get<Sgd>(options.optimizer).momentum;
      }
      s.clip_value = options.clip.value, s.clip_norm = options.clip.norm;
      s.meta = state.meta, s.first = state.first, s.second = state.second;
      s.running = state.running, s.inner_second = state.inner_second;
      for (const Layer& layer : model.layers)
        if (const auto* norm = std::get_if<BatchNorm>(&layer)) s.running_momentum = norm->momentum;
    }
  }
  return prepared_.emplace(key, std::move(prepared)).first->second;
}

void Learner::Impl::check(const TaskBatch& batch, bool query_needed) const {
  const int in = model.input.size(), out = shape.layout.targets;
  auto examples = [&](const char* what, const Examples& e) {
    if (e.count < 0) throw InvalidArgument(fmt::format("{}: count is {}; it must not be negative", what, e.count));
    const auto rows = static_cast<std::size_t>(batch.tasks) * static_cast<std::size_t>(e.count);
    if (e.x.size() != rows * static_cast<std::size_t>(in))
      throw InvalidArgument(fmt::format("{}: x has {} numbers; {} tasks of {} examples of {} need {}", what, e.x.size(),
                                        batch.tasks, e.count, in, rows * static_cast<std::size_t>(in)));
    if (e.y.size() != rows * static_cast<std::size_t>(out))
      throw InvalidArgument(fmt::format("{}: y has {} numbers; {} tasks of {} examples of {} need {}", what, e.y.size(),
                                        batch.tasks, e.count, out, rows * static_cast<std::size_t>(out)));
    if (!is_classification(model.loss)) return;
    for (float label : e.y)
      if (!(label >= 0 && label < static_cast<float>(shape.layout.outputs)) || label != std::floor(label))
        throw InvalidArgument(fmt::format("{}: {} is no class; labels are whole numbers from 0 to {}", what, label,
                                          shape.layout.outputs - 1));
  };
  if (batch.tasks < 1) throw InvalidArgument(fmt::format("tasks is {}; at least 1 is needed", batch.tasks));
  examples("support", batch.support);
  examples("query", batch.query);
  if (query_needed && batch.query.count == 0) throw InvalidArgument("query has no examples; at least 1 is needed");
}

std::vector<double> Learner::Impl::download(Array a) const {
  std::vector<double> out(static_cast<std::size_t>(a.size) * static_cast<std::size_t>(a.tasks));
  if (a) backend->download(a, out);
  return out;
}

Learner::Learner(const Model& model, const Algorithm& algorithm, const Options& options)
    : impl_(std::make_unique<Impl>(model, algorithm, options)) {}
Learner::Learner(Learner&&) noexcept = default;
Learner& Learner::operator=(Learner&&) noexcept = default;
Learner::~Learner() = default;

const Model& Learner::model() const { return impl_->model; }
const Algorithm& Learner::algorithm() const { return impl_->algorithm; }
const Options& Learner::options() const { return impl_->options; }
std::string Learner::device_name() const { return impl_->backend->name(); }
const std::vector<std::string>& Learner::adapted_set() const { return impl_->adapted_set; }
std::int64_t Learner::updates() const { return impl_->updates; }
std::int64_t Learner::skipped() const { return impl_->skipped; }

Plan Learner::plan_for(const TaskSizes& sizes) const {
  Impl& im = *impl_;
  im.choose_layers(sizes, Goal::update, im.training_statistics(), -1);
  const Problem p = make_problem(im.model, im.algorithm, sizes, im.place(), Goal::update, im.training_statistics(), -1,
                                 im.implementations);
  Plan plan = describe(p, choose_cut(p, im.plan_options()), im.plan_options());
  plan.measured = im.measured;
  return plan;
}

std::vector<double> Learner::parameters() const {
  return impl_->download(impl_->state.meta.slice(0, impl_->shape.layout.parameters));
}
void Learner::set_parameters(std::span<const double> values) {
  const auto P = static_cast<std::size_t>(impl_->shape.layout.parameters);
  if (values.size() != P) throw InvalidArgument(fmt::format("the model has {} parameters, not {}", P, values.size()));
  const double largest = impl_->backend->number() == Number::float32 ? std::numeric_limits<float>::max()
                                                                     : std::numeric_limits<double>::max();
  for (std::size_t i = 0; i < P; ++i)
    if (!(std::abs(values[i]) <= largest))
      throw InvalidArgument(fmt::format("parameter {} is {}, no finite number of {}", i, values[i],
                                        impl_->backend->number() == Number::float32 ? "float32" : "float64"));
  impl_->backend->upload(values, impl_->state.meta.slice(0, static_cast<std::int64_t>(P)));
}
std::vector<double> Learner::rates() const {
  return impl_->shape.learned_rates || impl_->rates_given ? impl_->download(impl_->state.rates) : std::vector<double>{};
}
void Learner::set_rates(std::span<const double> values) {
  if (values.size() != static_cast<std::size_t>(impl_->state.rates.size))
    throw InvalidArgument(fmt::format("the learner has {} rates, not {}", impl_->state.rates.size, values.size()));
  if (const std::string wrong = wrong_rates(impl_->shape, values); !wrong.empty()) throw InvalidArgument(wrong);
  impl_->backend->upload(values, impl_->state.rates);
  impl_->rates_given = !impl_->shape.learned_rates;
}

}  // namespace cumeta
