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

/// One call of a pass, with the arrays that it is given and the scratch that its row is bound to.
struct PassCall {
  Pass pass = Pass::forward;
  Values v;
  Gradients d;
  Values R;
  Gradients Rd;
  Array scratch;

  bool forward() const { return pass == Pass::forward || pass == Pass::tangent_forward; }
  /// Whether a backward pass is asked for dx, dw.
  bool dx() const { return static_cast<bool>(pass == Pass::backward ? d.x : Rd.x); }
  bool dw() const { return static_cast<bool>(pass == Pass::backward ? d.w : Rd.w); }
};

/// Kernel launches of a pass on CUDA. A row that needs another number declares its own overload.
template <class T>
int cuda_launches(const T&, const Geometry&, const PassCall& call) {
  return call.forward() || call.dx() || call.dw() ? 1 : 0;
}

struct OnReference {};
struct OnCpu {};
struct OnCuda {};

class ReferenceLane;
class CpuLane;
class CudaLane;

}  // namespace cumeta
