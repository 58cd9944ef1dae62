// SPDX-License-Identifier: Apache-2.0
// MAML (Finn et al. 2017): descend, take the query gradient, pull it back. First order leaves the Hessians out; K = 0
// is joint training.
#include "src/algorithms/unrolled.h"

namespace cumeta {

namespace {

void unrolled_meta_gradient(Chunk& c) {
  const RowLayout layout = c.problem.row();
  const Array adjoint = c.row.slice(0, c.problem.layout.parameters);
  descend(c);
  query_pass(c, c.weights(c.problem.steps), c.row.slice(layout.query_loss_at(), 1), c.row.slice(layout.hits_at(), 1),
             adjoint);
  pull_back(c, adjoint);
}

}  // namespace

void meta_gradient(const Maml&, Chunk& c) { unrolled_meta_gradient(c); }

/// ANIL (Raghu et al. 2020): MAML whose rates are zero below the head (Problem::adapted says so).
void meta_gradient(const Anil&, Chunk& c) { unrolled_meta_gradient(c); }

/// Meta-SGD (Li et al. 2017): MAML whose rates, one per parameter, are learned: pull_back leaves their gradient too.
void meta_gradient(const MetaSgd&, Chunk& c) { unrolled_meta_gradient(c); }

}  // namespace cumeta
