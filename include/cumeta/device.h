// SPDX-License-Identifier: Apache-2.0
// Where a learner computes. A device that is absent is an error, never another device.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "cumeta/export.h"

namespace cumeta {

/// reference: plain loops in double, the judge of all others. cpu: SIMD on all cores asked for. cuda: one NVIDIA GPU.
enum class Device { reference, cpu, cuda };
/// float32 everywhere, or on CUDA (compute capability 8.0 and later) TF32 products in linear and convolution: inputs
/// rounded to 10 bits of mantissa, sums in float32; relative error 3e-4 per product. The reference computes in float64.
enum class Precision { float32, tf32 };
/// Whose kernels linear and convolution run by on CUDA. own: this library's, fused with what stands around them
/// (conv2d + batch_norm + relu, average pool + linear, a small model's whole inner loop); unfused: this library's, a
/// launch per layer and pass; vendor: cuBLAS and cuDNN, everything else this library's; fastest: one of the three per
/// layer, measured once on the device. Other devices have only their own.
enum class Implementation { own, unfused, vendor, fastest };

/// What a plan must know of a machine. plan(..., machine) works for machines that are not here.
struct Machine {
  std::string name;
  int cores = 1;                   ///< CPU cores, or streaming multiprocessors
  std::int64_t memory = 0;         ///< bytes that a plan may use; 0: no bound
  std::int64_t shared_memory = 0;  ///< CUDA: bytes per block, opted in
  int compute_capability = 0;      ///< CUDA: 90 for sm_90
  double fma_peak_gflops = 0;      ///< FP32, whole device; 0: unknown
};
/// This machine's CPU with `threads` (0: as many as the process may use); its memory is what is installed, or what the
/// process's control group may use if that is less.
CUMETA_API Machine cpu_machine(int threads = 0);
/// A known GPU by name: "h100", "h200", "a100", "l4", "rtx3090", "rtx4090", "t4"; its memory is what a driver leaves of
/// what is installed. Throws InvalidArgument naming the known ones.
CUMETA_API Machine cuda_machine(const std::string& name);
/// The GPU of this machine with that number; its memory is what is free now. Throws DeviceUnavailable.
CUMETA_API Machine cuda_machine(int ordinal);

/// One device as `cumeta info` lists it.
struct DeviceStatus {
  Device device = Device::cpu;
  bool available = false;
  std::string text;  ///< its name, or why it cannot be used
};
CUMETA_API std::vector<DeviceStatus> device_status();
/// One plugin: the file, and why it does not load here (empty when it does).
struct PluginStatus {
  std::string name, path, problem;
};
CUMETA_API std::vector<PluginStatus> plugin_status();
/// The SIMD target that the CPU's kernels run on here: "AVX2", "AVX3", "NEON", ...
CUMETA_API std::string simd_target();
/// GFLOP/s of a register-only multiply-add loop on `threads` threads for about `seconds`: the yardstick of benches.
CUMETA_API double measured_fma_peak_gflops(int threads, double seconds);
/// "reference", "cpu", "cuda" and back. Throws InvalidArgument.
CUMETA_API std::string to_string(Device device);
CUMETA_API Device device_from(const std::string& name);
/// "own", "unfused", "vendor", "fastest".
CUMETA_API std::string to_string(Implementation implementation);
/// "float32", "tf32"; what the reference computes in is "float64".
CUMETA_API std::string to_string(Precision precision, Device device);

}  // namespace cumeta
