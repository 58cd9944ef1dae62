// SPDX-License-Identifier: Apache-2.0
// implementation = fastest: own or the vendor's kernels, layer by layer, by the time that a device takes.
#pragma once
#include "kernels/backend.h"
#include "src/problem.h"

namespace cumeta {

/// Runs every linear and convolution of the problem both ways (as the plan would run them: own fused with what own
/// fuses, the vendor's with own layers behind it) on the rows of `tasks` tasks: in the head the support set's gradient,
/// and Hessian product where the problem has one; in ANIL's body the query set's gradient. Median of a few rounds;
/// equal shapes are measured once. `own` and `vendor` are the same problem laid out without and with all vendor layers.
/// `room`: bytes that the measuring may take (0: any number); where it is too small for `tasks` tasks, fewer are timed.
/// Throws OutOfMemory where it is too small for one.
VendorLayers measure_fastest(Backend& backend, const Problem& own, const Problem& vendor, int tasks,
                             std::int64_t room = 0);

/// "own vendor own", a word per layer, and back; empty when the text is no such list for this model.
std::string text_of(const VendorLayers& layers);
VendorLayers vendor_layers_from(const std::string& text, const Model& model);

}  // namespace cumeta
