// SPDX-License-Identifier: Apache-2.0
// Gradient descent on the support set and its adjoint, for all tasks of a chunk:
//   w[0] = theta,  w[k+1] = w[k] - a[k] * g[k],  g[k] = grad S(w[k])                          (descend)
//   l[K] = grad Q(w[K]);   l[k] = l[k+1] - H(w[k]) (a[k] * l[k+1])                            (pull_back)
//   dQ/dtheta = l[0],   dQ/da[k] = - g[k] * l[k+1]
// Parameters below the first adapted one (the body) make features once; the head's passes on features give, besides
// their own products, the mixed term that one backward pass through the body turns into the body's gradient.
#pragma once
#include "src/algorithms/workspace.h"

namespace cumeta {

/// Fills the body's features of the support set. Nothing to do without a body.
void body_features(Chunk& c);
/// One inner step: gradient at w[k] on its tape, then w[k+1]. `loss` [tasks][1] is the support loss before the step.
void descend_step(Chunk& c, int k, Array loss);
/// All K steps; support losses go to the row.
void descend(Chunk& c);
/// Query loss and hits at w[K]; with `adjoint`, the gradient too: the head's part and, with a body, the body's.
void query_pass(Chunk& c, Array weights, Array loss, Array hits, Array adjoint);
/// l[K] -> l[0] in place, rate gradients, and the body's mixed term.
void pull_back(Chunk& c, Array adjoint);

// The algorithms: what they leave in a chunk's rows.
void meta_gradient(const Maml& a, Chunk& c);
void meta_gradient(const Anil& a, Chunk& c);
void meta_gradient(const MetaSgd& a, Chunk& c);
void meta_gradient(const Reptile& a, Chunk& c);
/// Query loss and hits after 0..K steps: row = [loss (K + 1) | hits (K + 1) | spare].
void evaluate(Chunk& c);

}  // namespace cumeta
