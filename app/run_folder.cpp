// SPDX-License-Identifier: Apache-2.0
#include "app/run_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cumeta/error.h"
#include "src/atomic_file.h"

namespace cumeta::app {
namespace {

namespace fs = std::filesystem;

constexpr const char* csv_header =
    "update,loss,accuracy,gradient_norm,rate,order,skipped,validation_loss,validation_accuracy,steps,adapted\n";

[[noreturn]] void refuse_write(const std::string& path) {
  throw FileError(fmt::format("{}: cannot be written: {}", path, std::strerror(errno)));
}

std::FILE* open_to_append(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "ab");
  if (file == nullptr) refuse_write(path);
  return file;
}

void append(std::FILE* file, const std::string& text, const std::string& path) {
  // One write call a line: what a killed process leaves is whole lines, but for the last at most.
  if (std::fwrite(text.data(), 1, text.size(), file) != text.size() || std::fflush(file) != 0) refuse_write(path);
}

/// The lines of updates <= keep_to, each given to `update_of` (-1: the line is not whole).
template <class UpdateOf>
std::string kept_lines(const std::string& path, UpdateOf update_of, std::int64_t keep_to) {
  std::error_code none;
  if (!fs::exists(path, none)) return {};
  const std::string text = read_text_file(path);
  std::string kept;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    const std::string line = text.substr(begin, end - begin);
    const std::int64_t update = update_of(line);
    if (update >= 0 && update <= keep_to) kept += line + "\n";
    begin = end + 1;
  }
  return kept;
}

nlohmann::json optional_number(const std::optional<double>& value) {
  return value && std::isfinite(*value) ? nlohmann::json(*value) : nlohmann::json();
}
nlohmann::json finite_number(double value) { return optional_number(value); }
std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}
std::string cell(const std::optional<double>& value) { return value ? number_text(*value) : std::string(); }

}  // namespace

std::string number_text(double value) { return std::isnan(value) ? "nan" : fmt::format("{}", value); }

void write_text_file(const std::string& path, const std::string& text) {
  write_atomically(path, std::as_bytes(std::span(text)));
}

bool RunFolder::holds_run() const {
  std::error_code none;
  return fs::exists(recipe(), none) || fs::exists(last(), none);
}

void RunFolder::create() const {
  std::error_code error;
  fs::create_directories(path_, error);
  if (error) throw FileError(fmt::format("{}: cannot be made a folder: {}", path_, error.message()));
}

RunLock::RunLock(const RunFolder& folder) : folder_(::open(folder.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  // The kernel gives the lock back when the process ends, however it ends.
  if (folder_.number() < 0 || ::flock(folder_.number(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK)
      throw FileError(fmt::format(
          "{}: another training is at work in this folder; wait for it, or choose another --out", folder.path()));
    throw FileError(fmt::format("{}: cannot be locked: {}", folder.path(), std::strerror(errno)));
  }
  remove_unfinished(folder.path());
}

TrainedRun open_run(const std::string& run, const std::string& which) {
  std::error_code none;
  if (fs::is_regular_file(run, none)) {
    if (!which.empty()) throw InvalidArgument(fmt::format("--checkpoint {}: {} is a checkpoint itself", which, run));
    const std::string text = Learner::recipe_in(run);
    if (text.empty()) throw FileError(fmt::format("{}: holds no recipe; name the folder of its run", run));
    return {recipe_from_text(text, run), run};
  }
  const RunFolder folder(run);
  if (!fs::is_directory(run, none) || !folder.holds_run())
    throw FileError(fmt::format("{}: is neither a run's folder nor a checkpoint; train --out {} makes one", run, run));
  std::string checkpoint = which;
  if (which.empty()) checkpoint = fs::exists(folder.best(), none) ? folder.best() : folder.last();
  if (which == "best") checkpoint = folder.best();
  if (which == "last") checkpoint = folder.last();
  if (!fs::exists(checkpoint, none))
    throw FileError(fmt::format("{}: there is no such checkpoint; best, last or a file", checkpoint));
  if (!fs::exists(folder.recipe(), none))
    return {recipe_from_text(Learner::recipe_in(checkpoint), checkpoint), checkpoint};
  return {recipe_from_text(read_text_file(folder.recipe()), folder.recipe()), checkpoint};
}

RunLog::RunLog(const RunFolder& folder, std::int64_t keep_to) : csv_path_(folder.csv()), jsonl_path_(folder.jsonl()) {
  const auto csv_update = [](const std::string& line) -> std::int64_t {
    char* end = nullptr;
    const long long update = std::strtoll(line.c_str(), &end, 10);
    return end != line.c_str() && *end == ',' ? update : -1;
  };
  const auto jsonl_update = [&](const std::string& line) -> std::int64_t {
    const auto value = nlohmann::json::parse(line, nullptr, false);
    if (!value.is_object() || !value.contains("update") || !value["update"].is_number_integer()) return -1;
    const auto update = value["update"].get<std::int64_t>();
    if (update > keep_to) return update;
    const auto keep = [&](const char* key, std::optional<double>& best, double sign) {
      if (!value.contains(key) || !value[key].is_number()) return;
      const double number = value[key].get<double>();
      if (!best || sign * number > sign * *best) best = number;
    };
    keep("validation_accuracy", best_accuracy_, 1);
    keep("validation_loss", best_loss_, -1);
    return update;
  };
  write_text_file(csv_path_, csv_header + kept_lines(csv_path_, csv_update, keep_to));
  write_text_file(jsonl_path_, kept_lines(jsonl_path_, jsonl_update, keep_to));
  csv_ = open_to_append(csv_path_);
  jsonl_ = open_to_append(jsonl_path_);
}

RunLog::~RunLog() {
  if (csv_ != nullptr) std::fclose(csv_);
  if (jsonl_ != nullptr) std::fclose(jsonl_);
}

std::optional<double> RunLog::best_kept(bool accuracy) const { return accuracy ? best_accuracy_ : best_loss_; }

void RunLog::write(const LogLine& line) {
  const Update& u = line.update;
  append(csv_,
         fmt::format("{},{},{},{},{},{},{},{},{},{},{}\n", u.update, number_text(u.loss),
                     line.has_accuracy ? number_text(u.accuracy) : "", number_text(u.gradient_norm), u.rate,
                     to_string(u.order), u.skipped, cell(line.validation_loss), cell(line.validation_accuracy), u.steps,
                     line.adapted),
         csv_path_);
  nlohmann::ordered_json object;
  object["update"] = u.update;
  object["loss"] = finite_number(u.loss);
  object["accuracy"] = line.has_accuracy ? finite_number(u.accuracy) : nlohmann::json();
  object["gradient_norm"] = finite_number(u.gradient_norm);
  object["rate"] = u.rate;
  object["order"] = to_string(u.order);
  object["steps"] = u.steps;
  object["adapted"] = line.adapted;
  if (line.adapted != "all") object["adapted"] = words_of(line.adapted);
  object["skipped"] = u.skipped;
  object["device"] = line.device;
  object["support_loss"] = nlohmann::json::array();
  for (const double loss : u.support_loss) object["support_loss"].emplace_back(finite_number(loss));
  if (line.validation_loss) object["validation_loss"] = finite_number(*line.validation_loss);
  if (line.validation_accuracy) object["validation_accuracy"] = finite_number(*line.validation_accuracy);
  append(jsonl_, object.dump() + "\n", jsonl_path_);
}

}  // namespace cumeta::app
