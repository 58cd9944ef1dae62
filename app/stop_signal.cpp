// SPDX-License-Identifier: Apache-2.0
#include "app/stop_signal.h"

#include <atomic>
#include <csignal>

namespace cumeta::app {
namespace {

std::atomic<bool> requested{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void on_signal(int signal) {
  requested = true;
  std::signal(signal, SIG_DFL);
}

}  // namespace

void catch_stop_signals() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP})
    if (std::signal(signal, on_signal) == SIG_IGN) std::signal(signal, SIG_IGN);  // as nohup and a shell's & want it
}
bool stop_requested() { return requested; }

}  // namespace cumeta::app
