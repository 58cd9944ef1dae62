// SPDX-License-Identifier: Apache-2.0
// Ctrl-C and SIGTERM ask training to stop after the update at hand; a second one ends the program at once.
#pragma once

namespace cumeta::app {

void catch_stop_signals();
bool stop_requested();

}  // namespace cumeta::app
