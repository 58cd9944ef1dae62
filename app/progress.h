// SPDX-License-Identifier: Apache-2.0
// Progress of training for people: a bar that rewrites its line on a terminal, plain lines in a pipe.
#pragma once
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

#include "cumeta/learner.h"

namespace cumeta::app {

class Progress {
 public:
  /// `quiet`: stdout is kept for JSON; a bar still shows on stderr if that is a terminal.
  Progress(std::int64_t first, std::int64_t last, bool accuracy, bool quiet);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// Any update; the bar redraws at most ten times a second.
  void tick(const Update& update);
  /// A line that stays: of a report, with what was validated.
  void line(const Update& update, const std::string& more);
  void note(const std::string& text);
  double seconds() const;

 private:
  std::string figures(const Update& update) const;
  void clear_bar();

  std::FILE* out_;
  bool bar_ = false, lines_ = false, accuracy_ = false, drawn_ = false;
  std::int64_t first_, last_;
  std::chrono::steady_clock::time_point begin_, drawn_at_;
};

}  // namespace cumeta::app
