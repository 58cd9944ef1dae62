// SPDX-License-Identifier: Apache-2.0
// Stands in for the toolkit's cuda_pipeline.h: the pipeline primitives on the emulator's asynchronous copies.
#pragma once
#include "tests/emulator/cuda_emulator.h"

inline void __pipeline_memcpy_async(void* shared, const void* global, size_t bytes, size_t zeros = 0) {
  emulator::cp_async(shared, global, unsigned(bytes - zeros), unsigned(zeros));
}
inline void __pipeline_commit() { emulator::cp_async_commit(); }
inline void __pipeline_wait_prior(size_t pending) { emulator::cp_async_wait(int(pending)); }
