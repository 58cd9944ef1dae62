// SPDX-License-Identifier: Apache-2.0
#include "tests/emulator/planned_trouble.h"

#include <cstdlib>
#include <cstring>

namespace emulator {

bool machine_is(const char* state) {
  const char* asked = std::getenv("CUMETA_EMULATED_MACHINE");
  return asked && std::strcmp(asked, state) == 0;
}

bool fault_is_planned(const char* launch) {
  const char* words = std::getenv("CUMETA_EMULATED_FAULT");
  return words && *words && launch && std::strstr(launch, words);
}

}  // namespace emulator
