// SPDX-License-Identifier: Apache-2.0
// Whole files or none: PATH.PID-COUNT.unfinished becomes PATH.
#include "src/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "cumeta/error.h"
#include "src/file_descriptor.h"

namespace cumeta {
namespace {

namespace fs = std::filesystem;

constexpr const char* suffix = ".unfinished";

[[noreturn]] void refuse(const std::string& path) {
  throw FileError(fmt::format("{}: cannot be written: {}", path, std::strerror(errno)));
}

FileDescriptor open_file(const std::string& path, int flags) {
  return FileDescriptor(::open(path.c_str(), flags | O_CLOEXEC, 0666));
}

bool put(const FileDescriptor& file, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(file.number(), bytes.data(), bytes.size());
    if (count < 0 && errno != EINTR) return false;
    if (count > 0) bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return true;
}

/// Where a path's links lead, so that they stay links.
std::string target_of(const std::string& path) {
  fs::path target = path;
  std::error_code error;
  for (int links = 0; fs::is_symlink(target, error) && links < 40; ++links) {
    const fs::path next = fs::read_symlink(target, error);
    if (error) break;
    target = next.is_absolute() ? next : target.parent_path() / next;
  }
  return target.string();
}

}  // namespace

void write_atomically(const std::string& path, std::span<const std::byte> bytes) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) {
    FileDescriptor out = open_file(path, O_WRONLY);
    if (out.number() < 0 || !put(out, bytes) || !out.close()) refuse(path);
    return;
  }
  static std::atomic<unsigned> count{0};
  const std::string target = target_of(path);
  const std::string unfinished = fmt::format("{}.{}-{}{}", target, ::getpid(), ++count, suffix);
  FileDescriptor out = open_file(unfinished, O_WRONLY | O_CREAT | O_EXCL);
  if (out.number() < 0) refuse(path);
  if (!put(out, bytes) || ::fsync(out.number()) != 0 || !out.close() ||
      ::rename(unfinished.c_str(), target.c_str()) != 0) {
    const int why = errno;
    ::unlink(unfinished.c_str());
    errno = why;
    refuse(path);
  }
  // The new name itself must survive a power cut too; a file system that cannot sync a folder has no better to offer.
  const fs::path folder = fs::path(target).parent_path();
  const FileDescriptor directory = open_file(folder.empty() ? "." : folder.string(), O_RDONLY | O_DIRECTORY);
  if (directory.number() >= 0) ::fsync(directory.number());
}

void remove_unfinished(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (entry.path().native().ends_with(suffix)) fs::remove(entry.path(), error);
}

}  // namespace cumeta
