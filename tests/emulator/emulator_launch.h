// SPDX-License-Identifier: Apache-2.0
// emulator::launch(kernel, grid, block, shared_bytes, stream, args...) = kernel<<<grid, block, shared_bytes,
// stream>>>(args...).
#pragma once
#include <functional>
#include <tuple>
#include <vector>

#include "tests/emulator/cuda_language.h"
#include "tests/emulator/cuda_runtime_types.h"

namespace emulator {

struct Launch {
  const void* kernel;
  const char* name;  // for reports
  dim3 grid, block;
  size_t dynamic_shared;
  std::function<void()> thread;  // the kernel with its own copy of the arguments, as one thread calls it
  std::vector<std::vector<unsigned char>> arguments = {};  // the same as bytes, for who runs the kernel's PTX instead
};

/// Records, or runs, one launch; what is wrong shows in cudaGetLastError(), as after <<<...>>>.
void submit_launch(Launch launch, cudaStream_t stream);

/// Kernels run so far in this process, those of graphs included.
unsigned long long kernel_launches();
/// What was found wrong, in one line; empty when nothing was. Cleared by cudaDeviceReset().
const char* report();
/// The order of threads and blocks from the next launch on; the first seed is CUMETA_EMULATOR_SEED.
void set_seed(unsigned long long seed);

template <class Value>
std::vector<unsigned char> bytes_of(const Value& value) {
  const auto* first = reinterpret_cast<const unsigned char*>(&value);
  return {first, first + sizeof value};
}

template <class... P, class... A>
void launch_named(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                  cudaStream_t stream, A&&... arguments) {
  std::tuple<std::decay_t<P>...> copies(static_cast<std::decay_t<P>>(arguments)...);
  std::vector<std::vector<unsigned char>> bytes;
  std::apply([&](const auto&... copy) { (bytes.push_back(bytes_of(copy)), ...); }, copies);
  submit_launch({reinterpret_cast<const void*>(kernel), name, grid, block, shared_bytes,
                 [kernel, copies] { std::apply(kernel, copies); }, std::move(bytes)},
                stream);
}
template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, A&&... arguments) {
  launch_named("", kernel, grid, block, shared_bytes, stream, static_cast<A&&>(arguments)...);
}

}  // namespace emulator

extern "C" __attribute__((visibility("default"))) unsigned long long cumeta_emulator_kernel_launches();
