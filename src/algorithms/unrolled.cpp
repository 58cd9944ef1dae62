// SPDX-License-Identifier: Apache-2.0
#include "src/algorithms/unrolled.h"

namespace cumeta {

namespace {

std::size_t tape_of(const Chunk& c, int k) {
  return std::min<std::size_t>(static_cast<std::size_t>(k), c.work.tapes.size() - 1);
}
Array gradient_of(const Chunk& c, int k) {
  return c.cut(c.work.gradients[std::min<std::size_t>(static_cast<std::size_t>(k), c.work.gradients.size() - 1)]);
}
/// What the head sees of the support rows that step k uses.
Array support_input(const Chunk& c, int k) {
  if (c.problem.has_body()) return c.cut(c.work.body_support_tape.y.back());
  return c.x_rows(c.problem.first_row_of(k), c.problem.batch);
}
Array support_target(const Chunk& c, int k) { return c.t_rows(c.problem.first_row_of(k), c.problem.batch); }
/// The part of a parameter row that the inner loop's engine touches.
Array head(const Chunk& c, Array row) {
  return c.cut(row.slice(c.problem.head_offset, c.problem.layout.parameters - c.problem.head_offset));
}
/// [mean | 1/sigma] of a stage's batch norm in its record.
Array norm_record(const Chunk& c, const Engine& engine, const PlacedStage& stage, Array record) {
  const std::int64_t at = stage.norm_record_at({stage.input, engine.sizes().examples, engine.sizes().statistics_rows});
  return c.cut(record.slice(at, stage.statistics_size));
}
void given_records(Chunk& c, const Engine& engine, const Tape& tape) {
  for (std::size_t i = 0; i < engine.stages().size(); ++i) {
    const PlacedStage& stage = engine.stages()[i];
    if (!stage.statistics_size) continue;
    c.lane.statistics_to_record(norm_record(c, engine, stage, tape.r[i]),
                                c.running.slice(stage.statistics_at, stage.statistics_size).shared(c.tasks),
                                stage.norm()->eps);
  }
}

/// Mean and variance of every batch norm that keeps running statistics, from the pass that made the tape.
void keep_statistics(Chunk& c, const Engine& engine, const Tape& tape) {
  for (std::size_t i = 0; i < engine.stages().size(); ++i) {
    const PlacedStage& stage = engine.stages()[i];
    if (stage.statistics_size)
      c.lane.record_to_statistics(
          c.row.slice(c.problem.row().statistics_at() + stage.statistics_at, stage.statistics_size),
          norm_record(c, engine, stage, tape.r[i]), stage.norm()->eps);
  }
}

}  // namespace

void body_features(Chunk& c) {
  if (!c.problem.has_body()) return;
  c.work.body_support->forward(c.tasks, c.theta, c.x_rows(0, c.problem.sizes.support), c.work.body_support_tape);
}

void descend_step(Chunk& c, int k, Array loss) {
  const std::size_t tape = tape_of(c, k);
  const Array w = c.weights(k), g = gradient_of(c, k);
  c.work.support->gradient(c.tasks, w, support_input(c, k), support_target(c, k), c.work.tapes[tape], loss, {}, g,
                           c.work.feature_gradients[tape]);
  const Array next = head(c, c.weights(k + 1)), from = head(c, w), rate = head(c, c.rate(k)), by = head(c, g);
  if (const Reptile* adam = c.problem.inner_adam())
    c.lane.descend_adam(next, from, head(c, c.work.second), rate, by, adam->beta2, adam->eps, c.inner_count, k + 1);
  else
    c.lane.descend(next, from, rate, by);
}

void descend(Chunk& c) {
  body_features(c);
  const RowLayout layout = c.problem.row();
  for (int k = 0; k < c.problem.steps; ++k) descend_step(c, k, c.row.slice(layout.support_loss_at() + k, 1));
}

void query_pass(Chunk& c, Array weights, Array loss, Array hits, Array adjoint) {
  const Problem& p = c.problem;
  const int first = p.first_query_row();
  const Array t = c.t_rows(first, p.query_rows());
  Array x = c.x_rows(first, p.query_rows());
  const bool given = p.query_statistics == Statistics::running;
  if (p.has_body()) {
    if (given) given_records(c, *c.work.body_query, c.work.body_query_tape);
    c.work.body_query->forward(c.tasks, c.theta, x, c.work.body_query_tape);
    x = c.work.body_query_tape.y.back();
  }
  const Engine& engine = *c.work.query;
  if (given) given_records(c, engine, c.work.query_tape);
  engine.forward(c.tasks, weights, x, c.work.query_tape);
  engine.loss(c.tasks, t, c.work.query_tape, loss, hits, static_cast<bool>(adjoint));
  if (p.goal != Goal::evaluation && p.layout.statistics) {
    if (p.has_body()) keep_statistics(c, *c.work.body_query, c.work.body_query_tape);
    keep_statistics(c, engine, c.work.query_tape);
  }
  if (!adjoint) return;
  const Array feature_gradient = p.has_body() ? c.work.body_query_tape.dy.back() : Array{};
  engine.backward(c.tasks, weights, x, c.work.query_tape, adjoint, feature_gradient);
  if (p.has_body())
    c.work.body_query->backward(c.tasks, c.theta, c.x_rows(first, p.query_rows()), c.work.body_query_tape, adjoint);
}

void pull_back(Chunk& c, Array adjoint) {
  const Problem& p = c.problem;
  const int P = p.layout.parameters;
  const bool second = p.second_order();
  const Array l = head(c, adjoint);
  const Array feature_adjoint = second && p.has_body() ? c.cut(c.work.body_support_tape.dy.back()) : Array{};
  if (feature_adjoint) c.lane.fill(feature_adjoint, 0);
  if (p.learned_rates) c.lane.fill(c.row.slice(P, std::int64_t{p.rate_rows} * P), 0);
  for (int k = p.steps - 1; k >= 0; --k) {
    if (p.learned_rates)
      for (const TiedGroup& range : p.adapted) {
        const std::int64_t size = range.end - range.begin;
        const std::int64_t at = P + std::int64_t{std::min(k, p.rate_rows - 1)} * P + range.begin;
        c.lane.add_product(c.row.slice(at, size), -1, gradient_of(c, k).slice(range.begin, size),
                           adjoint.slice(range.begin, size));
      }
    if (!second) continue;
    const std::size_t tape = tape_of(c, k);
    const Array x = support_input(c, k), t = support_target(c, k), dx = c.work.feature_gradients[tape];
    // The tape of the last step is still there; an earlier one is refilled by the kernels that made it.
    if (c.recompute && k < p.steps - 1)
      c.work.support->gradient(c.tasks, c.weights(k), x, t, c.work.tapes[tape], c.cut(c.work.direction).slice(0, 1), {},
                               {}, dx);
    c.lane.multiply(head(c, c.work.direction), head(c, c.rate(k)), l);
    c.work.support->hessian_product(c.tasks, c.weights(k), c.work.direction, x, t, c.work.tapes[tape], c.work.tangents,
                                    c.work.product, dx, c.work.feature_tangent);
    c.lane.add(l, -1, head(c, c.work.product));
    if (feature_adjoint) c.lane.add(feature_adjoint, -1, c.work.feature_tangent);
  }
  if (!feature_adjoint) return;
  c.work.body_support->backward(c.tasks, c.theta, c.x_rows(0, p.sizes.support), c.work.body_support_tape,
                                c.work.product);
  c.lane.add(c.cut(adjoint.slice(0, p.head_offset)), 1, c.work.product.slice(0, p.head_offset));
}

}  // namespace cumeta
