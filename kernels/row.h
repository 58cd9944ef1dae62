// SPDX-License-Identifier: Apache-2.0
// What every row's header needs. A row declares, per stage type T:
//   output(T, input shape)          -> output shape of one example
//   parameters(T, input shape)      -> numbers in the flat parameter vector
//   record(T, geometry)             -> numbers of r per task, tangent_record(...) of Rr
//   multiply_adds(T, input shape)   -> of one example's forward pass (the cost laws count these)
//   scratch(T, geometry, On...)     -> numbers per task that a device's passes need while they run
//   bind(T, geometry, scratch, lane)-> the four passes on a device; one definition per column
#pragma once
#include <cstdint>
#include <memory>

#include "cumeta/layers.h"
#include "cumeta/shape.h"
#include "kernels/layer.h"
#include "kernels/stage.h"

namespace cumeta {

enum class Pass { forward, backward, tangent_forward, tangent_backward };

/// Kernel launches of a pass on CUDA; x, w: whether dx and dw (in tangent_forward: Rx and Rw) are there. A row that
/// needs more than one declares its own overload.
template <class T>
constexpr int cuda_launches(const T&, const Geometry&, Pass, bool /*x*/, bool /*w*/) {
  return 1;
}

struct OnReference {};
struct OnCpu {};
struct OnCuda {};

class ReferenceLane;
class CpuLane;
class CudaLane;

}  // namespace cumeta
