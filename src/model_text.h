// SPDX-License-Identifier: Apache-2.0
// A model in one line, so that a checkpoint knows what it belongs to: what computes, not how it was initialised or is
// adapted, and not whose statistics batch norm takes.
#pragma once
#include <string>

#include "cumeta/model.h"

namespace cumeta {

/// "28x28x1: conv2d 64 kernel 3 stride 2 padding 1; batch_norm eps 1e-05; relu; ...; softmax_cross_entropy".
std::string model_text(const Model& model);

}  // namespace cumeta
