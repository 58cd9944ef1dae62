// SPDX-License-Identifier: Apache-2.0
// Any folder of class folders of PNGs, as a table of images of one size.
#pragma once
#include "src/data/image_table.h"

namespace cumeta {

ImageTable open_image_folder(const ImageFolder& source, Subset subset);

}  // namespace cumeta
