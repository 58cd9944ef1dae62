// SPDX-License-Identifier: Apache-2.0
// Omniglot, read straight from its two zips or from a folder unpacked from them.
#pragma once
#include "src/data/image_table.h"

namespace cumeta {

/// The images of a subset: 105x105 1-bit PNG -> 28x28 by exact area average, ink = 1, rounded once to bytes.
ImageTable open_omniglot(const Omniglot& source, Subset subset);

}  // namespace cumeta
