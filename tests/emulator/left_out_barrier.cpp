// SPDX-License-Identifier: Apache-2.0
// A barrier that is passed as if it were deleted, so that a test can be asked whether it would notice.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/emulator/cuda_threads.h"

namespace emulator {
namespace {

/// CUMETA_EMULATOR_WITHOUT_BARRIER=FILE:LINE: no thread waits at the barrier of that line, as if it were deleted. So a
/// test can be asked whether it would notice. At the end of the process stderr says how often a thread went past it.
struct LeftOut {
  const char* file = nullptr;
  size_t length = 0;
  int line = 0;
  unsigned long long times = 0;

  LeftOut() {
    const char* place = std::getenv("CUMETA_EMULATOR_WITHOUT_BARRIER");
    const char* colon = place ? std::strrchr(place, ':') : nullptr;
    if (!place) return;
    if (!colon || colon == place || (line = std::atoi(colon + 1)) <= 0) {
      std::fprintf(stderr, "cuda emulator: CUMETA_EMULATOR_WITHOUT_BARRIER='%s' must be FILE:LINE\n", place);
      std::abort();
    }
    file = place, length = size_t(colon - place);
  }
  ~LeftOut() {
    if (file) std::fprintf(stderr, "cuda emulator: left out %llu waits at the barrier of %s\n", times, file);
  }
  bool has(const Site& site) {
    if (site.line != line) return false;
    const size_t size = std::strlen(site.file);
    if (size < length || std::strncmp(site.file + size - length, file, length) != 0) return false;
    ++times;
    return true;
  }
};
LeftOut left_out;

}  // namespace

bool leaves_out(Site site) { return left_out.has(site); }

}  // namespace emulator
