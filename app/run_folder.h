// SPDX-License-Identifier: Apache-2.0
// The folder of a run: recipe.toml, last.safetensors, best.safetensors, log.csv, log.jsonl.
// A log line of update n is written before the checkpoint of update n; resuming at n keeps the lines up to n. So a run
// that is killed anywhere and resumed writes the files of one that never stopped.
#pragma once
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

#include "app/recipe_file.h"
#include "cumeta/learner.h"
#include "src/file_descriptor.h"

namespace cumeta::app {

class RunFolder {
 public:
  explicit RunFolder(std::string path) : path_(std::move(path)) {}
  const std::string& path() const { return path_; }
  std::string recipe() const { return path_ + "/recipe.toml"; }
  std::string last() const { return path_ + "/last.safetensors"; }
  std::string best() const { return path_ + "/best.safetensors"; }
  std::string csv() const { return path_ + "/log.csv"; }
  std::string jsonl() const { return path_ + "/log.jsonl"; }
  bool holds_run() const;
  /// Makes the folder. Throws FileError.
  void create() const;

 private:
  std::string path_;
};

/// Keeps other trainings out of a run's folder, which must be there; makes good what a killed one left. Throws
/// FileError.
class RunLock {
 public:
  explicit RunLock(const RunFolder& folder);

 private:
  FileDescriptor folder_;
};

/// What a command that works on trained weights was given: a run's folder, or a checkpoint alone.
struct TrainedRun {
  RecipeTable recipe;
  std::string checkpoint;
};
/// `which`: "" (best if there is one, else last), "best", "last" or a file. Throws FileError.
TrainedRun open_run(const std::string& run, const std::string& which);

/// One line of the logs. No clock in it: the same run on the same device gives the same bytes.
struct LogLine {
  Update update;
  std::string device;         ///< that computed it, as the learner names it: a run may go on on another
  bool has_accuracy = false;  ///< classification with a query set
  std::string adapted;        ///< names of what the inner loop changes, a blank between them; "all"
  std::optional<double> validation_loss, validation_accuracy;
};

class RunLog {
 public:
  /// Keeps the lines of updates up to `keep_to`, drops the rest (and a line that is not whole).
  RunLog(const RunFolder& folder, std::int64_t keep_to);
  ~RunLog();
  RunLog(const RunLog&) = delete;
  RunLog& operator=(const RunLog&) = delete;
  void write(const LogLine& line);
  /// The best validation among the kept lines: accuracy where `accuracy`, else the loss.
  std::optional<double> best_kept(bool accuracy) const;

 private:
  std::FILE* csv_ = nullptr;
  std::FILE* jsonl_ = nullptr;
  std::string csv_path_, jsonl_path_;
  std::optional<double> best_accuracy_, best_loss_;
};

/// As a table's cell shows it; a NaN has no sign worth showing.
std::string number_text(double value);
/// Atomic: the whole text or the old file.
void write_text_file(const std::string& path, const std::string& text);

}  // namespace cumeta::app
