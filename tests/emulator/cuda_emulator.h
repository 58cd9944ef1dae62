// SPDX-License-Identifier: Apache-2.0
// CUDA C++ for g++: included before everything else in a .cu file that is compiled for the CPU.
#pragma once
#ifndef CUMETA_CUDA_EMULATED
#define CUMETA_CUDA_EMULATED 1
#endif
#include "tests/emulator/cuda_device_math.h"
#include "tests/emulator/cuda_language.h"
#include "tests/emulator/cuda_runtime_calls.h"
#include "tests/emulator/cuda_threads.h"
#include "tests/emulator/emulator_launch.h"
#include "tests/emulator/tensor_core.h"
