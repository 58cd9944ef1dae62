// SPDX-License-Identifier: Apache-2.0
// Checks of the numbers that describe an episode, shared by the sources.
#pragma once

namespace cumeta {

/// At least one example to adapt on, none or more to judge by, and no more than an episode can hold.
void check_examples(const char* source, int shots, int query);
/// The same, and at least one class.
void check_episode(const char* source, int ways, int shots, int query);

}  // namespace cumeta
