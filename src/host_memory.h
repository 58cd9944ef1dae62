// SPDX-License-Identifier: Apache-2.0
// How much memory a process of this machine may use:  min(installed, memory.max of its control group and all above it).
#pragma once
#include <cstdint>
#include <string>

namespace cumeta {

/// The least limit of a process's control groups, in bytes; 0: none. `groups`: the folder that the groups are mounted
/// at; `membership`: the process's lines of /proc/self/cgroup, "0::/path" (version 2) or "3:memory:/path" (version 1).
/// A container sees its own group at the mount and a path that is not there: then the mount's own limit counts.
std::int64_t group_memory_limit(const std::string& groups, const std::string& membership);
/// Bytes that this process may use.
std::int64_t host_memory();

}  // namespace cumeta
