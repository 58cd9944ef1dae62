// SPDX-License-Identifier: Apache-2.0
// A file is written whole or not at all: to a temporary name beside it, synced, renamed.
#pragma once
#include <cstddef>
#include <span>
#include <string>

namespace cumeta {

/// A link keeps its place and its target is replaced. What is no regular file (a device, a pipe) takes the bytes as
/// they come. Throws FileError; then the old file stands.
void write_atomically(const std::string& path, std::span<const std::byte> bytes);
/// Removes what writers of this folder's files left unfinished when they were killed. Nobody may be writing there.
void remove_unfinished(const std::string& folder);

}  // namespace cumeta
