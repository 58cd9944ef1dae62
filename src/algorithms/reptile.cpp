// SPDX-License-Identifier: Apache-2.0
// Reptile (Nichol et al. 2018): the direction is theta - w[K]; stepping against it moves theta towards the adapted
// weights.
#include "src/algorithms/unrolled.h"

namespace cumeta {

namespace {

/// Without a query set the last support loss is the report.
void query_free_report(Chunk& c, Array loss, Array hits) {
  const int K = c.problem.steps;
  if (K > 0)
    c.lane.copy(c.row.slice(c.problem.row().support_loss_at() + K - 1, 1), loss);
  else
    c.lane.fill(loss, 0);
  c.lane.fill(hits, 0);
}

}  // namespace

void meta_gradient(const Reptile&, Chunk& c) {
  const Problem& p = c.problem;
  const RowLayout layout = p.row();
  if (p.inner_adam()) {
    if (c.inner_second)
      c.lane.copy(c.inner_second.shared(c.tasks), c.cut(c.work.second));
    else
      c.lane.fill(c.cut(c.work.second), 0);
  }
  descend(c);
  c.lane.subtract(c.row.slice(0, p.layout.parameters), c.theta, c.weights(p.steps));
  if (p.carries_second_moment()) c.lane.copy(c.work.second, c.row.slice(layout.second_at(), p.layout.parameters));
  const Array loss = c.row.slice(layout.query_loss_at(), 1), hits = c.row.slice(layout.hits_at(), 1);
  if (p.sizes.query > 0)
    query_pass(c, c.weights(p.steps), loss, hits, {});
  else
    query_free_report(c, loss, hits);
}

}  // namespace cumeta
