// SPDX-License-Identifier: Apache-2.0
// What cumeta asks of cuBLAS and cuDNN, as close to their own calls as can be: a matrix product and three convolutions,
// queued on one stream. libcumeta_cuda_vendor.so answers with the libraries, the emulator with plain loops.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/plugin.h"

namespace cumeta {

/// Bytes of workspace of each lane's queue; a part of the plan.
constexpr std::int64_t kVendorWorkspace = std::int64_t{32} << 20;

/// Of a queue on one stream; the workspace belongs to the caller and outlives the queue.
struct VendorOptions {
  int ordinal = 0;
  void* stream = nullptr;  ///< cudaStream_t
  void* workspace = nullptr;
  std::int64_t workspace_bytes = 0;
  bool tf32 = false;  ///< TF32 products are allowed
};

/// C = op(A) op(B) + beta C for each of `batch`, column-major as in BLAS; op(A) is [m][k], op(B) [k][n]. A stride of 0
/// shares one matrix.
struct VendorGemm {
  bool transpose_a = false, transpose_b = false;
  int m = 0, n = 0, k = 0;
  const float* a = nullptr;
  int lda = 0;
  std::int64_t stride_a = 0;
  const float* b = nullptr;
  int ldb = 0;
  std::int64_t stride_b = 0;
  float beta = 0;  ///< 0: C is not read
  float* c = nullptr;
  int ldc = 0;
  std::int64_t stride_c = 0;
  int batch = 1;
};

/// Cross-correlation, everything packed:  x [images][groups x channels][height][width],
/// w [groups x filters][channels][kernel][kernel], y [images][groups x filters][out_height][out_width].
struct VendorConvolution {
  int images = 0, groups = 1, channels = 0, filters = 0;
  int height = 0, width = 0, out_height = 0, out_width = 0;
  int kernel = 1, stride = 1, padding = 0;
  void* workspace = nullptr;  ///< used beside the queue's own, whichever is larger
  std::int64_t workspace_bytes = 0;
};

/// Calls queue work and never wait; they may be captured in a graph. The same call gives the same bits. Failures throw
/// in the host (Host::raise). beta = 0: the result is not read.
class VendorQueue {
 public:
  virtual ~VendorQueue() = default;
  virtual void multiply(const VendorGemm& gemm) = 0;
  virtual void convolution_forward(const VendorConvolution& c, const float* x, const float* w, float beta,
                                   float* y) = 0;
  virtual void convolution_backward_data(const VendorConvolution& c, const float* dy, const float* w, float beta,
                                         float* dx) = 0;
  virtual void convolution_backward_filter(const VendorConvolution& c, const float* x, const float* dy, float beta,
                                           float* dw) = 0;
};

/// The vendor plugin's exported functions, extern "C", beside cumeta_plugin_build_id.
using VendorOpen = VendorQueue* (*)(const Host*, const VendorOptions*);  // cumeta_open_vendor

}  // namespace cumeta
