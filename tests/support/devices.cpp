// SPDX-License-Identifier: Apache-2.0
#include "tests/support/devices.h"

#include <cstdlib>
#include <map>
#include <ostream>
#include <string_view>

#include "cumeta/error.h"
#include "kernels/all_layers.h"

namespace cumeta::testing {
namespace {

std::unique_ptr<Backend> open_new(TestDevice device) {
  switch (device) {
    case TestDevice::reference:
      return open_reference();
    case TestDevice::cpu:
      return open_cpu(2, false);
    case TestDevice::cuda:
      return open_cuda({});
    case TestDevice::cuda_vendor:
      return open_cuda({.vendor = true});
    case TestDevice::cuda_tf32:
      return open_cuda({.tf32 = true});
  }
  return nullptr;
}

}  // namespace

std::string name(TestDevice device) {
  switch (device) {
    case TestDevice::reference:
      return "reference";
    case TestDevice::cpu:
      return "cpu";
    case TestDevice::cuda:
      return "cuda";
    case TestDevice::cuda_vendor:
      return "cuda_vendor";
    case TestDevice::cuda_tf32:
      return "cuda_tf32";
  }
  return {};
}
judging::Arithmetic arithmetic_of(TestDevice device) {
  return device == TestDevice::cuda_tf32   ? judging::Arithmetic::tf32
         : device == TestDevice::reference ? judging::Arithmetic::float64
                                           : judging::Arithmetic::float32;
}
std::ostream& operator<<(std::ostream& out, TestDevice device) { return out << name(device); }

std::vector<TestDevice> judged_devices() { return {TestDevice::cpu, TestDevice::cuda}; }

Backend* open(TestDevice device, std::string& why) {
  struct Opened {
    std::unique_ptr<Backend> backend;
    std::string why;
  };
  static std::map<TestDevice, Opened> opened;
  const auto [entry, first] = opened.try_emplace(device);
  if (first) {
    try {
      entry->second.backend = open_new(device);
    } catch (const DeviceUnavailable& absent) {
      const char* required =
          std::getenv(device == TestDevice::cuda_vendor ? "CUMETA_REQUIRE_VENDOR" : "CUMETA_REQUIRE_CUDA");
      if (device >= TestDevice::cuda && required && std::string_view(required) == "1") {
        opened.erase(entry);
        throw;
      }
      entry->second.why = absent.what();
    }
  }
  why = entry->second.why;
  return entry->second.backend.get();
}

std::int64_t scratch_numbers(const Stage& stage, const Geometry& geometry, TestDevice device) {
  return std::visit(
      [&](const auto& l) -> std::int64_t {
        switch (device) {
          case TestDevice::reference:
            return scratch(l, geometry, OnReference{});
          case TestDevice::cpu:
            return scratch(l, geometry, OnCpu{});
          case TestDevice::cuda:
          case TestDevice::cuda_vendor:
          case TestDevice::cuda_tf32:
            return scratch(l, geometry, OnCuda{});
        }
        return 0;
      },
      stage);
}

}  // namespace cumeta::testing
