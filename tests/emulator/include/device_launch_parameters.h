// SPDX-License-Identifier: Apache-2.0
// Stands in for the toolkit's device_launch_parameters.h when a .cu file is compiled for the emulator.
#pragma once
#include "tests/emulator/cuda_emulator.h"
