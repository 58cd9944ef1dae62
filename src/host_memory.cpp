// SPDX-License-Identifier: Apache-2.0
#include "src/host_memory.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <sstream>

namespace cumeta {

namespace {

constexpr std::int64_t no_limit = std::numeric_limits<std::int64_t>::max();

/// The number in a file; no limit when there is no such file or it says "max".
std::int64_t limit_in(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  if (!(file >> word)) return no_limit;
  std::int64_t bytes = 0;
  const auto [end, failure] = std::from_chars(word.data(), word.data() + word.size(), bytes);
  return failure == std::errc() && end == word.data() + word.size() && bytes > 0 ? bytes : no_limit;
}

/// Of the group at `path` below `folder` and of every group above it.
std::int64_t least_limit(const std::string& folder, std::string path, const std::string& file) {
  std::int64_t least = limit_in(folder + "/" + file);
  while (path.size() > 1) {
    least = std::min(least, limit_in(folder + path + "/" + file));
    path.erase(path.rfind('/'));
  }
  return least;
}

}  // namespace

std::int64_t group_memory_limit(const std::string& groups, const std::string& membership) {
  std::int64_t least = no_limit;
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos || line.compare(second + 1, 1, "/") != 0) continue;
    std::string controllers = line.substr(first, second - first + 1);  // ":cpu,memory:"
    std::replace(controllers.begin(), controllers.end(), ':', ',');
    const std::string path = line.substr(second + 1);
    if (controllers == ",,")
      least = std::min(least, least_limit(groups, path, "memory.max"));
    else if (controllers.find(",memory,") != std::string::npos)
      least = std::min(least, least_limit(groups + "/memory", path, "memory.limit_in_bytes"));
  }
  return least == no_limit ? 0 : least;
}

std::int64_t host_memory() {
  const std::int64_t installed = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  std::ifstream file("/proc/self/cgroup");
  std::stringstream membership;
  if (file) membership << file.rdbuf();
  const std::int64_t limit = group_memory_limit("/sys/fs/cgroup", membership.str());
  return limit > 0 ? std::min(installed, limit) : installed;
}

}  // namespace cumeta
