// SPDX-License-Identifier: Apache-2.0
// Trouble that the environment asks for, so that tests see what a broken machine does:
//   CUMETA_EMULATED_MACHINE=no_driver | old_driver | no_device | busy | capability_6 | no_kernels
//   CUMETA_EMULATED_FAULT=words     every launch whose name holds the words ends in an illegal address
#pragma once

namespace emulator {

bool machine_is(const char* state);
bool fault_is_planned(const char* launch);

}  // namespace emulator
