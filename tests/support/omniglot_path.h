// SPDX-License-Identifier: Apache-2.0
// Finds the real Omniglot for tests: CUMETA_DATA/omniglot, or ../shared/data/omniglot beside the source.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace cumeta::test {

/// Empty when the data is not there.
inline std::string omniglot_path() {
  namespace fs = std::filesystem;
  const char* data = std::getenv("CUMETA_DATA");
  const fs::path folder =
      data != nullptr ? fs::path(data) / "omniglot" : fs::path(CUMETA_SOURCE_DIR) / "../shared/data/omniglot";
  const bool there = fs::exists(folder / "images_background.zip") || fs::exists(folder / "images_background");
  return there ? folder.lexically_normal().string() : "";
}

inline bool in_ci() {
  const char* ci = std::getenv("CI");
  return ci != nullptr && std::string(ci) == "true";
}

}  // namespace cumeta::test

/// Sets `path` to the data; without it skips the test, or fails it where it must not be missing.
#define CUMETA_NEEDS_OMNIGLOT(path)                                                    \
  const std::string path = cumeta::test::omniglot_path();                              \
  if (path.empty() && cumeta::test::in_ci())                                           \
    FAIL() << "CI needs Omniglot; set CUMETA_DATA to the folder that holds omniglot/"; \
  if (path.empty()) GTEST_SKIP() << "no Omniglot here; set CUMETA_DATA to the folder that holds omniglot/"
