// SPDX-License-Identifier: Apache-2.0
// What a meta-learner is judged by: the query set before and after every inner step.
#include "src/algorithms/unrolled.h"

namespace cumeta {

void evaluate(Chunk& c) {
  const int K = c.problem.steps;
  if (c.problem.inner_adam()) {
    if (c.inner_second)
      c.lane.copy(c.inner_second.shared(c.tasks), c.cut(c.work.second));
    else
      c.lane.fill(c.cut(c.work.second), 0);
  }
  body_features(c);
  for (int k = 0; k <= K; ++k) {
    query_pass(c, c.weights(k), c.row.slice(k, 1), c.row.slice(K + 1 + k, 1), {});
    // The loss before a step is of no interest here; its place in the row is free to be overwritten.
    if (k < K) descend_step(c, k, c.row.slice(2 * (K + 1), 1));
  }
}

}  // namespace cumeta
