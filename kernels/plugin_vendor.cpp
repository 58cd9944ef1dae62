// SPDX-License-Identifier: Apache-2.0
// libcumeta_cuda_vendor.so: the calls of kernels/vendor_calls.h answered by cuBLAS and cuDNN.
#include <cublas_v2.h>
#include <cudnn.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <type_traits>

#include "kernels/vendor_calls.h"
#include "plugin_build_id.h"

namespace cumeta {
namespace {

struct Error {
  const Host* host;

  [[noreturn]] void raise(ErrorKind kind, const std::string& text) const {
    host->raise(kind, ("cuda: " + text).c_str());
    std::abort();  // Host::raise throws
  }
  static ErrorKind kind_of(cublasStatus_t s) {
    return s == CUBLAS_STATUS_NOT_INITIALIZED ? ErrorKind::device_unavailable
           : s == CUBLAS_STATUS_ALLOC_FAILED  ? ErrorKind::out_of_memory
                                              : ErrorKind::device_fault;
  }
  static ErrorKind kind_of(cudnnStatus_t s) {
    return s == CUDNN_STATUS_NOT_INITIALIZED ? ErrorKind::device_unavailable : ErrorKind::device_fault;
  }
  void check(cublasStatus_t status, const std::string& what) const {
    if (status != CUBLAS_STATUS_SUCCESS)
      raise(kind_of(status), "cuBLAS: " + what + ": " + cublasGetStatusString(status));
  }
  void check(cudnnStatus_t status, const std::string& what) const {
    if (status != CUDNN_STATUS_SUCCESS)
      raise(kind_of(status), "cuDNN " + std::to_string(cudnnGetVersion()) + ": " + what + ": " +
                                 cudnnGetErrorString(status) +
                                 "; set plan.implementation = \"own\" where cuDNN has no such convolution");
  }
};

template <auto destroy>
struct Destroy {
  template <class T>
  void operator()(T* object) const {
    static_cast<void>(destroy(object));
  }
};
template <class Handle, auto destroy>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy<destroy>>;
using CublasHandle = Owned<cublasHandle_t, cublasDestroy>;
using CudnnHandle = Owned<cudnnHandle_t, cudnnDestroy>;

/// A convolution's sizes as cuDNN is told them.
struct Descriptors {
  Owned<cudnnTensorDescriptor_t, cudnnDestroyTensorDescriptor> x, y;
  Owned<cudnnFilterDescriptor_t, cudnnDestroyFilterDescriptor> w;
  Owned<cudnnConvolutionDescriptor_t, cudnnDestroyConvolutionDescriptor> convolution;

  Descriptors(const Error& error, const VendorConvolution& c, bool tf32) {
    const char* what = "describe a convolution";
    const auto make = [&](auto& owned, auto create) {
      typename std::remove_reference_t<decltype(owned)>::pointer made = nullptr;
      error.check(create(&made), what);
      owned.reset(made);
    };
    make(x, cudnnCreateTensorDescriptor), make(y, cudnnCreateTensorDescriptor);
    make(w, cudnnCreateFilterDescriptor), make(convolution, cudnnCreateConvolutionDescriptor);
    constexpr cudnnDataType_t number = CUDNN_DATA_FLOAT;
    error.check(cudnnSetTensor4dDescriptor(x.get(), CUDNN_TENSOR_NCHW, number, c.images, c.groups * c.channels,
                                           c.height, c.width),
                what);
    error.check(cudnnSetTensor4dDescriptor(y.get(), CUDNN_TENSOR_NCHW, number, c.images, c.groups * c.filters,
                                           c.out_height, c.out_width),
                what);
    error.check(cudnnSetFilter4dDescriptor(w.get(), number, CUDNN_TENSOR_NCHW, c.groups * c.filters, c.channels,
                                           c.kernel, c.kernel),
                what);
    error.check(cudnnSetConvolution2dDescriptor(convolution.get(), c.padding, c.padding, c.stride, c.stride, 1, 1,
                                                CUDNN_CROSS_CORRELATION, number),
                what);
    error.check(cudnnSetConvolutionGroupCount(convolution.get(), c.groups), what);
    error.check(cudnnSetConvolutionMathType(convolution.get(), tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH), what);
  }
};

std::string text_of(const VendorConvolution& c) {
  const auto n = [](std::int64_t number) { return std::to_string(number); };
  return n(c.images) + " images of " + n(c.height) + "x" + n(c.width) + "x" + n(c.channels) + ", " + n(c.filters) +
         " filters of " + n(c.kernel) + "x" + n(c.kernel) + ", stride " + n(c.stride) + ", " + n(c.groups) +
         (c.groups == 1 ? " group" : " groups");
}

/// One algorithm per pass, each documented as deterministic and each a direct sum of products (no transform whose
/// rounding depends on the sizes): the same call gives the same bits, within the tolerances of all other kernels.
class LibraryQueue final : public VendorQueue {
 public:
  LibraryQueue(const Host& host, const VendorOptions& options) : error_{&host}, options_(options) {
    const auto stream = static_cast<cudaStream_t>(options.stream);
    cublasHandle_t blas = nullptr;
    error_.check(cublasCreate(&blas), "open");
    blas_.reset(blas);
    // In this order: setting the stream takes the workspace back.
    error_.check(cublasSetStream(blas, stream), "open");
    error_.check(cublasSetWorkspace(blas, options.workspace, static_cast<std::size_t>(options.workspace_bytes)),
                 "open");
    error_.check(cublasSetMathMode(blas, options.tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH), "open");
    error_.check(cublasSetPointerMode(blas, CUBLAS_POINTER_MODE_HOST), "open");
    error_.check(cublasSetAtomicsMode(blas, CUBLAS_ATOMICS_NOT_ALLOWED), "open");
    cudnnHandle_t dnn = nullptr;
    error_.check(cudnnCreate(&dnn), "open");
    dnn_.reset(dnn);
    error_.check(cudnnSetStream(dnn, stream), "open");
  }

  void multiply(const VendorGemm& g) override {
    const auto op = [](bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; };
    const float one = 1;
    error_.check(
        cublasSgemmStridedBatched(blas_.get(), op(g.transpose_a), op(g.transpose_b), g.m, g.n, g.k, &one, g.a, g.lda,
                                  g.stride_a, g.b, g.ldb, g.stride_b, &g.beta, g.c, g.ldc, g.stride_c, g.batch),
        "product of " + std::to_string(g.m) + "x" + std::to_string(g.k) + "x" + std::to_string(g.n) + ", " +
            std::to_string(g.batch) + " tasks");
  }

  void convolution_forward(const VendorConvolution& c, const float* x, const float* w, float beta, float* y) override {
    const Descriptors d(error_, c, options_.tf32);
    const auto need = [&](cudnnConvolutionFwdAlgo_t algorithm, std::size_t& bytes) {
      return cudnnGetConvolutionForwardWorkspaceSize(dnn_.get(), d.x.get(), d.w.get(), d.convolution.get(), d.y.get(),
                                                     algorithm, &bytes);
    };
    // The one with precomputed indices, or where its workspace is too large the one that needs none.
    cudnnConvolutionFwdAlgo_t algorithm = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
    std::size_t bytes = 0;
    const Workspace room = workspace(c);
    if (need(algorithm, bytes) != CUDNN_STATUS_SUCCESS || bytes > room.bytes) {
      algorithm = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM;
      error_.check(need(algorithm, bytes), "convolution forward of " + text_of(c));
      require(bytes, room, "forward", c);
    }
    const float one = 1;
    error_.check(cudnnConvolutionForward(dnn_.get(), &one, d.x.get(), x, d.w.get(), w, d.convolution.get(), algorithm,
                                         room.data, room.bytes, &beta, d.y.get(), y),
                 "convolution forward of " + text_of(c));
  }

  void convolution_backward_data(const VendorConvolution& c, const float* dy, const float* w, float beta,
                                 float* dx) override {
    const Descriptors d(error_, c, options_.tf32);
    const std::string what = "convolution backward data of " + text_of(c);
    constexpr auto algorithm = CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
    std::size_t bytes = 0;
    error_.check(cudnnGetConvolutionBackwardDataWorkspaceSize(dnn_.get(), d.w.get(), d.y.get(), d.convolution.get(),
                                                              d.x.get(), algorithm, &bytes),
                 what);
    const Workspace room = workspace(c);
    require(bytes, room, "backward data", c);
    const float one = 1;
    error_.check(cudnnConvolutionBackwardData(dnn_.get(), &one, d.w.get(), w, d.y.get(), dy, d.convolution.get(),
                                              algorithm, room.data, room.bytes, &beta, d.x.get(), dx),
                 what);
  }

  void convolution_backward_filter(const VendorConvolution& c, const float* x, const float* dy, float beta,
                                   float* dw) override {
    const Descriptors d(error_, c, options_.tf32);
    const std::string what = "convolution backward filter of " + text_of(c);
    constexpr auto algorithm = CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
    std::size_t bytes = 0;
    error_.check(cudnnGetConvolutionBackwardFilterWorkspaceSize(dnn_.get(), d.x.get(), d.y.get(), d.convolution.get(),
                                                                d.w.get(), algorithm, &bytes),
                 what);
    const Workspace room = workspace(c);
    require(bytes, room, "backward filter", c);
    const float one = 1;
    error_.check(cudnnConvolutionBackwardFilter(dnn_.get(), &one, d.x.get(), x, d.y.get(), dy, d.convolution.get(),
                                                algorithm, room.data, room.bytes, &beta, d.w.get(), dw),
                 what);
  }

 private:
  struct Workspace {
    void* data;
    std::size_t bytes;
  };
  Workspace workspace(const VendorConvolution& c) const {
    if (c.workspace_bytes > options_.workspace_bytes) return {c.workspace, static_cast<std::size_t>(c.workspace_bytes)};
    return {options_.workspace, static_cast<std::size_t>(options_.workspace_bytes)};
  }
  void require(std::size_t bytes, const Workspace& room, const char* pass, const VendorConvolution& c) const {
    if (bytes > room.bytes)
      error_.raise(ErrorKind::out_of_memory,
                   std::string("cuDNN: convolution ") + pass + " of " + text_of(c) + " wants " + std::to_string(bytes) +
                       " bytes of workspace, the plan has " + std::to_string(room.bytes) +
                       "; take fewer tasks per chunk (plan.chunk) or set plan.implementation = \"own\"");
  }

  Error error_;
  VendorOptions options_;
  CublasHandle blas_;
  CudnnHandle dnn_;
};

}  // namespace
}  // namespace cumeta

#define CUMETA_PLUGIN_EXPORT extern "C" __attribute__((visibility("default")))

CUMETA_PLUGIN_EXPORT const char* cumeta_plugin_build_id() { return CUMETA_PLUGIN_BUILD_ID; }

CUMETA_PLUGIN_EXPORT cumeta::VendorQueue* cumeta_open_vendor(const cumeta::Host* host,
                                                             const cumeta::VendorOptions* options) {
  return new cumeta::LibraryQueue(*host, *options);
}
