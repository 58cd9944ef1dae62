// SPDX-License-Identifier: Apache-2.0
// Recording on a host device: the calls are kept, and every run makes them.
#pragma once
#include <functional>
#include <utility>

#include "kernels/backend.h"

namespace cumeta {

class HostRecording final : public Recording {
 public:
  explicit HostRecording(std::function<void()> calls) : calls_(std::move(calls)) {}
  void run() override { calls_(); }

 private:
  std::function<void()> calls_;
};

}  // namespace cumeta
