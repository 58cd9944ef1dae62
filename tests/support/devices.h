// SPDX-License-Identifier: Apache-2.0
// The devices that tests run on. cuda is skipped where it does not open, unless CUMETA_REQUIRE_CUDA=1; cuda_vendor (the
// same with cuBLAS and cuDNN) unless CUMETA_REQUIRE_VENDOR=1.
#pragma once
#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/tools/tolerances.h"

namespace cumeta::testing {

/// cuda_tf32: CUDA with Precision::tf32, for the layers that know it.
enum class TestDevice { reference, cpu, cuda, cuda_vendor, cuda_tf32 };

std::string name(TestDevice device);
std::ostream& operator<<(std::ostream& out, TestDevice device);

judging::Arithmetic arithmetic_of(TestDevice device);

/// The devices that are judged by the reference in every pass.
std::vector<TestDevice> judged_devices();

/// The open backend, one per process; null when it is not there, with the reason in `why`. Throws when it is required.
Backend* open(TestDevice device, std::string& why);

/// Numbers per task that the stage's passes need on the device while they run.
std::int64_t scratch_numbers(const Stage& stage, const Geometry& geometry, TestDevice device);

}  // namespace cumeta::testing

/// In a test's body: the backend of `device` as `backend`, or the test is skipped with one line.
#define CUMETA_OPEN_OR_SKIP(backend, device)                                          \
  std::string why_not_open;                                                           \
  ::cumeta::Backend* backend_or_null = ::cumeta::testing::open(device, why_not_open); \
  if (!backend_or_null) GTEST_SKIP() << why_not_open;                                 \
  ::cumeta::Backend& backend = *backend_or_null
