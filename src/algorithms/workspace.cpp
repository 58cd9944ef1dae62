// SPDX-License-Identifier: Apache-2.0
#include "src/algorithms/workspace.h"

namespace cumeta {

Workspace take_workspace(Arena& arena, const Problem& p, int tasks, bool recompute) {
  Workspace w;
  const int P = p.layout.parameters;
  const bool gradients = p.goal != Goal::evaluation;
  const bool second = gradients && p.second_order();
  const bool keep_gradients = gradients && p.learned_rates;
  auto row = [&](const char* name) { return arena.take(name, tasks, P); };
  for (int k = 0; k < (second || keep_gradients ? p.steps : std::min(p.steps, 1)); ++k)
    w.weights.push_back(row("adapted weights"));
  for (int k = 0; k < (keep_gradients ? p.steps : std::min(p.steps, 1)); ++k)
    w.gradients.push_back(row("inner gradients"));
  if (second || p.has_body()) w.product = row("product");
  if (second) w.direction = row("direction");
  if (p.inner_adam()) w.second = row("inner second moment");

  if (p.has_body()) {
    w.body_support_tape = take_tape(arena, "body support", p.layout, p.body_support, tasks, second);
    w.body_query_tape = take_tape(arena, "body query", p.layout, p.body_query, tasks, gradients);
  }
  const std::int64_t feature_numbers =
      p.has_body() ? std::int64_t{p.batch} * p.layout.stages[static_cast<std::size_t>(p.head_stage)].input.size() : 0;
  for (int k = 0; k < (second && !recompute ? p.steps : std::min(p.steps, 1)); ++k) {
    w.tapes.push_back(take_tape(arena, "support tapes", p.layout, p.support, tasks, true));
    w.feature_gradients.push_back(second ? arena.take("feature gradients", tasks, feature_numbers) : Array{});
  }
  std::int64_t scratch =
      std::max(engine_scratch(p.layout, p.support, p.device), engine_scratch(p.layout, p.query, p.device));
  if (p.has_body())
    scratch = std::max({scratch, engine_scratch(p.layout, p.body_support, p.device),
                        engine_scratch(p.layout, p.body_query, p.device)});
  w.scratch = arena.take("scratch", tasks, scratch);

  const std::int64_t mark = arena.mark();
  if (p.sizes.query > 0)
    w.query_tape = take_tape(arena, "query tape", p.layout, p.query, tasks, gradients && !p.is_reptile());
  if (second) {
    arena.rewind(mark);
    w.tangents = take_tangent_tape(arena, "tangents", p.layout, p.support, tasks);
    w.feature_tangent = arena.take("feature tangent", tasks, feature_numbers);
  }
  arena.to_top();
  return w;
}

void bind_engines(Workspace& w, Lane& lane, const Problem& p) {
  w.support.emplace(lane, p.layout, p.model.loss, p.support, w.scratch);
  if (p.sizes.query > 0) w.query.emplace(lane, p.layout, p.model.loss, p.query, w.scratch);
  if (!p.has_body()) return;
  w.body_support.emplace(lane, p.layout, p.model.loss, p.body_support, w.scratch);
  if (p.sizes.query > 0) w.body_query.emplace(lane, p.layout, p.model.loss, p.body_query, w.scratch);
}

}  // namespace cumeta
