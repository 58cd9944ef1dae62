// SPDX-License-Identifier: Apache-2.0
// What every test of the door on every device begins with: the fixture that skips absent devices, and its options.
#pragma once
#include <gtest/gtest.h>

#include <string>

#include "cumeta/learner.h"
#include "tests/support/devices.h"

namespace cumeta::testing {

inline Device device_of(TestDevice device) {
  return device == TestDevice::cpu ? Device::cpu : device == TestDevice::cuda ? Device::cuda : Device::reference;
}

class LearnerOn : public ::testing::TestWithParam<TestDevice> {
 protected:
  void SetUp() override {
    std::string why;
    if (!open(GetParam(), why)) GTEST_SKIP() << why;
  }
  Options on(Optimizer optimizer = Adam{.rate = 1e-2}) const {
    return {.device = device_of(GetParam()), .optimizer = optimizer, .seed = 3};
  }
};

inline bool go_on(const Update&) { return true; }

}  // namespace cumeta::testing

#define CUMETA_LEARNER_ON_EVERY_DEVICE                                                                  \
  INSTANTIATE_TEST_SUITE_P(Devices, LearnerOn,                                                          \
                           ::testing::Values(TestDevice::reference, TestDevice::cpu, TestDevice::cuda), \
                           [](const auto& device) { return name(device.param); })
