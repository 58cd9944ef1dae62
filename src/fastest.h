// SPDX-License-Identifier: Apache-2.0
// implementation = fastest: fused, unfused or the vendor's kernels, layer by layer, by the time that a device takes.
#pragma once
#include <vector>

#include "kernels/backend.h"
#include "src/problem.h"

namespace cumeta {

/// Runs every linear and conv2d of the problem in each way (as the plan would run them: own fused with what own fuses,
/// the others with own layers around them) on the rows of `tasks` tasks: in the head the support set's gradient, and
/// Hessian product where the problem has one; in ANIL's body the query set's gradient. Median of a few alternating
/// rounds, own where two are equal; equal shapes are measured once. `others` are the same problem laid out with all
/// layers unfused, or all the vendor's.
/// `room`: bytes that the measuring may take (0: any number); where it is too small for `tasks` tasks, fewer are timed.
/// Throws OutOfMemory where it is too small for one.
LayerImplementations measure_fastest(Backend& backend, const Problem& own, const std::vector<Problem>& others,
                                     int tasks, std::int64_t room = 0);

/// "own vendor unfused", a word per layer, and back; empty when the text is no such list for this model.
std::string text_of(const LayerImplementations& layers);
LayerImplementations implementations_from(const std::string& text, const Model& model);

}  // namespace cumeta
