// SPDX-License-Identifier: Apache-2.0
// The only place that launches kernels:  launch(lane, "relu forward", kernel, grid, block, shared bytes, arguments...)
#pragma once
#include <cuda_runtime.h>
#include <nvtx3/nvToolsExt.h>

#include <cstddef>
#include <string>

#include "kernels/backend_cuda.h"
#include "kernels/tools/cuda_check.h"
#include "kernels/tools/cuda_shared.cuh"

namespace cumeta {

/// Whether the kernels are compiled for the emulator.
#ifdef CUMETA_CUDA_EMULATED
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif

/// Blocks may take this much dynamic shared memory without asking.
constexpr std::size_t kPlainSharedMemory = 48 * 1024;

/// Loads a kernel and lets it have `shared` bytes; never inside a capture.
template <class... P>
void prepare_kernel(Op op, void (*kernel)(P...), std::size_t shared) {
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, kernel), op);
  if (shared > kPlainSharedMemory)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)), op);
}

/// Queues one kernel on the lane's stream. Arguments convert to the kernel's parameter types. A grid with no block
/// queues nothing.
template <class... P, class... A>
void launch(const CudaLane& lane, Op op, void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared,
            A&&... arguments) {
  static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has parameters");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (lane.mode() == CudaLane::Mode::load) return prepare_kernel(op, kernel, shared);
  check(cudaSetDevice(lane.device().ordinal), op);
  if (lane.mode() == CudaLane::Mode::run && shared > kPlainSharedMemory) prepare_kernel(op, kernel, shared);
  nvtxRangePushA(op.name);
#ifdef CUMETA_CUDA_EMULATED
  emulator::launch_named(op.name, kernel, grid, block, shared, lane.stream(), static_cast<A&&>(arguments)...);
#else
  kernel<<<grid, block, shared, lane.stream()>>>(static_cast<A&&>(arguments)...);
#endif
  nvtxRangePop();
  cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess && lane.debug() && lane.mode() == CudaLane::Mode::run)
    error = cudaStreamSynchronize(lane.stream());
  if (error != cudaSuccess) [[unlikely]]
    raise_cuda(error, op,
               "grid " + std::to_string(grid.x) + "x" + std::to_string(grid.y) + "x" + std::to_string(grid.z) +
                   ", block " + std::to_string(block.x * block.y * block.z) + ", shared " + std::to_string(shared) +
                   " bytes");
}

/// Blocks of `size` that cover `count`.
constexpr unsigned blocks_for(long long count, int size) { return static_cast<unsigned>((count + size - 1) / size); }
/// Tasks on the y or z axis of a grid; kernels walk on by the grid's size where there are more. The emulator's limit is
/// so low that tests of a few dozen tasks walk too.
constexpr int kMostTaskBlocks = kEmulated ? 16 : 65535;
constexpr unsigned task_blocks(int tasks) {
  return static_cast<unsigned>(tasks < kMostTaskBlocks ? tasks : kMostTaskBlocks);
}

}  // namespace cumeta
