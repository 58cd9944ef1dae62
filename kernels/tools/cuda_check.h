// SPDX-License-Identifier: Apache-2.0
// Errors of the CUDA column: each call of the runtime is checked, each failure is one line thrown by the host.
#pragma once
#include <cuda_runtime.h>

#include <string>

#include "kernels/plugin.h"

namespace cumeta {

/// What is being done, and where: the start of an error's line.
struct Op {
  const char* name;
  const char* file;
  int line;
  constexpr Op(const char* op_name, const char* op_file = __builtin_FILE(), int op_line = __builtin_LINE())
      : name(op_name), file(op_file), line(op_line) {}
};

/// Throws in the host (see Host::raise).
[[noreturn]] void raise(ErrorKind kind, const std::string& text);

/// Throws DeviceFault "op: what the runtime says (its name), details, at file:line". Clears the runtime's last error.
[[noreturn]] void raise_cuda(cudaError_t error, Op op, const std::string& details = {});

inline void check(cudaError_t error, Op op) {
  if (error != cudaSuccess) [[unlikely]]
    raise_cuda(error, op);
}

}  // namespace cumeta
