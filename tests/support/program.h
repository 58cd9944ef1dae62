// SPDX-License-Identifier: Apache-2.0
// Runs the built program as a user does: arguments in; status, stdout and stderr out; signals on the way.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace cumeta::test {

struct Finished {
  int status = -1;  ///< exit status; 128 + signal when a signal ended it
  std::string out, error;
  std::int64_t peak_bytes = 0;  ///< resident memory at its highest
};

/// A process of the program, its outputs in files of `folder`.
class Process {
 public:
  Process(const std::string& program, const std::vector<std::string>& arguments, const std::string& folder);
  void signal(int number) const;
  bool running();
  Finished wait();

 private:
  bool reap(int options);  ///< whether it has ended

  int id_ = -1, status_ = 0;
  std::int64_t peak_bytes_ = 0;
  bool ended_ = false;
  std::string out_, error_;
};

}  // namespace cumeta::test
