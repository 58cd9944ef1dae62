// SPDX-License-Identifier: Apache-2.0
#include "src/execution.h"

#include "kernels/outer_step_workspace.h"
#include "kernels/vendor_calls.h"
#include "src/algorithms/unrolled.h"

namespace cumeta {

State take_state(Arena& arena, const Problem& p, const Optimizer& optimizer) {
  State s;
  const int P = p.layout.parameters, M = p.meta_size();
  s.meta = arena.take("meta-parameters", 1, M);
  const auto* sgd = std::get_if<Sgd>(&optimizer);
  if (!sgd || sgd->momentum != 0) s.first = arena.take("optimizer state", 1, M);
  if (!sgd) s.second = arena.take("optimizer state", 1, M);
  s.rates = p.learned_rates ? s.meta.slice(P, M - P) : arena.take("inner rates", 1, std::int64_t{p.rate_rows} * P);
  s.running = arena.take("running statistics", 1, p.layout.statistics);
  if (p.carries_second_moment()) s.inner_second = arena.take("carried second moment", 1, P);
  s.control = arena.take("control and reports", 1, kControlSize, Number::float64);
  s.reports = arena.take("control and reports", report_slots, ReportLayout{p.steps}.size(), Number::float64);
  const Array outcome = arena.take("control and reports", 1, 1 + kAppliedSize, Number::float64);
  s.halted = outcome.slice(0, 1), s.applied = outcome.slice(1, kAppliedSize);
  return s;
}

int row_size(const Problem& p) { return p.goal == Goal::evaluation ? 2 * (p.steps + 1) + 1 : p.row().size(); }

Memory take_memory(Arena& arena, const Problem& p, const Cut& cut) {
  Memory m;
  const int T = p.sizes.tasks, rows = p.sizes.support + p.sizes.query;
  m.x = arena.take("examples", T, std::int64_t{rows} * p.model.input.size());
  m.t = arena.take("examples", T, std::int64_t{rows} * p.layout.targets);
  m.rows = arena.take("results per task", T, row_size(p));
  if (p.goal != Goal::evaluation) m.mean = arena.take("mean over tasks", 1, row_size(p));
  if (p.goal == Goal::gradient) m.adapted = arena.take("adapted parameters", T, p.layout.parameters);
  for (int lane = 0; lane < cut.lanes && !cut.program; ++lane)
    m.lanes.push_back(take_workspace(arena, p, cut.chunk, cut.recompute));
  return m;
}

Bytes count_bytes(const Problem& p, const Cut& cut, const Optimizer& optimizer, Implementation implementation) {
  const Number number = p.device == Device::reference ? Number::float64 : Number::float32;
  Arena state(number), memory(number);
  take_state(state, p, optimizer);
  take_memory(memory, p, cut);
  Bytes bytes{state.bytes() + memory.bytes(), state.arrays()};
  bytes.arrays.insert(bytes.arrays.end(), memory.arrays().begin(), memory.arrays().end());
  if (p.device == Device::cuda) {
    bytes.total += kOuterStepWorkspace;
    bytes.arrays.push_back({"outer step", kOuterStepWorkspace});
  }
  if (calls_vendor(implementation)) {
    bytes.total += kCudaLanes * kVendorWorkspace;
    bytes.arrays.push_back({"vendor workspace", kCudaLanes * kVendorWorkspace});
  }
  return bytes;
}

namespace {

Block allocate_block(Backend& backend, std::int64_t bytes) {
  return {backend.allocate(static_cast<std::size_t>(bytes)), bytes};
}

}  // namespace

std::int64_t Execution::bytes_of(const Problem& problem, const Cut& cut) {
  Arena dry(problem.device == Device::reference ? Number::float64 : Number::float32);
  take_memory(dry, problem, cut);
  return dry.bytes();
}

Execution::Execution(Backend& backend, const Problem& problem, const Cut& cut, const State& state, Block block)
    : backend_(backend), problem_(problem), cut_(cut), state_(state), block_(std::move(block)) {
  Arena arena(backend.number(), block_.data.get());
  memory_ = take_memory(arena, problem_, cut_);
  bytes_ = arena.bytes();
  for (int i = 0; i < cut_.lanes && !cut_.program; ++i)
    bind_engines(memory_.lanes[static_cast<std::size_t>(i)], backend.lane(i), problem_);
}

Execution::Execution(Backend& backend, const Problem& problem, const Cut& cut, const State& state)
    : Execution(backend, problem, cut, state, allocate_block(backend, bytes_of(problem, cut))) {}

void Execution::run(const Source& source, const OuterStep* step) {
  const Problem& p = problem_;
  const int T = p.sizes.tasks;
  const auto work = [&](int index, int lane) {
    const int first = index * cut_.chunk, tasks = std::min(cut_.chunk, T - first);
    Lane& on = backend_.lane(lane);
    if (cut_.program) return run_program(source, first, tasks, on);
    source.fill(first, tasks, on);
    Chunk c{.lane = on,
            .problem = p,
            .work = memory_.lanes[static_cast<std::size_t>(lane)],
            .recompute = cut_.recompute,
            .tasks = tasks,
            .theta = state_.meta.slice(0, p.layout.parameters).shared(tasks),
            .rates = state_.rates,
            .running = state_.running,
            .inner_second = p.carries_second_moment() ? state_.inner_second : Array{},
            .inner_count = state_.applied.slice(kAppliedInnerSteps, 1),
            .x = memory_.x.rows(first, tasks),
            .t = memory_.t.rows(first, tasks),
            .row = memory_.rows.rows(first, tasks),
            .adapted = memory_.adapted ? memory_.adapted.rows(first, tasks) : Array{}};
    if (p.goal == Goal::evaluation) return evaluate(c);
    std::visit([&](const auto& a) { meta_gradient(a, c); }, p.algorithm);
    if (!c.adapted) return;
    on.copy(c.theta, c.adapted);
    const int head = p.head_offset;
    if (p.steps > 0)
      on.copy(c.weights(p.steps).slice(head, p.layout.parameters - head),
              c.adapted.slice(head, p.layout.parameters - head));
  };
  // By reference: a std::function of the lambda itself would allocate in every update.
  backend_.for_each_chunk(cut_.chunks(T), cut_.lanes, std::cref(work));
  if (step) backend_.outer_step(*step);
}

void Execution::run_program(const Source& source, int first, int tasks, Lane& on) {
  const MlpProgram& program = *problem_.program;
  const bool draws = source.open_episodes && backend_.program_draws(program);
  if (!draws) source.fill(first, tasks, on);
  const MlpArrays arrays{.x = memory_.x.rows(first, tasks),
                         .t = memory_.t.rows(first, tasks),
                         .theta = state_.meta.slice(0, problem_.layout.parameters),
                         .rates = state_.rates,
                         .row = memory_.rows.rows(first, tasks),
                         .adapted = memory_.adapted ? memory_.adapted.rows(first, tasks) : Array{},
                         .layout = problem_.row()};
  backend_.run_program(on, program, arrays, first, draws ? state_.control : Array{});
}

}  // namespace cumeta
