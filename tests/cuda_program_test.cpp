// SPDX-License-Identifier: Apache-2.0
// The program with --device cuda: it trains as on the CPU, every recipe runs unchanged, checkpoints move between both,
// and what goes wrong with the device is one line.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cumeta/tensor_file.h"
#include "tests/support/devices.h"
#include "tests/support/pictures.h"
#include "tests/support/program.h"
#include "tests/support/test_tolerances.h"

namespace cumeta::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Words = std::vector<std::string>;

const std::string kRecipes = CUMETA_SOURCE_DIR "/recipes";

class CudaProgram : public ::testing::Test {
 protected:
  void SetUp() override {
    CUMETA_OPEN_OR_SKIP(backend, testing::TestDevice::cuda);
    name_ = backend.name();
  }
  Finished run(const Words& words) { return Process(CUMETA_PROGRAM, words, folder_.path()).wait(); }
  json result_of(Words words) {
    words.emplace_back("--json");
    const Finished done = run(words);
    EXPECT_EQ(done.status, 0) << done.error;
    return json::parse(done.out, nullptr, false);
  }
  std::string path(const std::string& name) const { return folder_.path(name); }

  /// Settings under which any recipe takes a moment, `updates` updates long.
  Words small(const std::string& recipe, int updates) const {
    Words words;
    const auto set = [&](const std::string& setting) { words.insert(words.end(), {"--set", setting}); };
    set("run.updates=" + std::to_string(updates));
    for (const char* setting : {"run.tasks=2", "run.report_every=2", "run.checkpoint_every=2", "run.validate_every=4",
                                "run.validate_tasks=2", "evaluate.steps=2"})
      set(setting);
    if (recipe.find("omniglot") == std::string::npos) return words;
    words.insert(words.end(), {"--data", folder_.path()});
    // Its validation set has one class: nothing to choose among.
    for (const char* setting : {"data.ways=2", "model.filters=4", "run.validate_every=0"}) set(setting);
    if (recipe.find("reptile") != std::string::npos)
      for (const char* setting : {"data.shots=2", "algorithm.steps=2", "algorithm.batch=2", "evaluate.batch=2"})
        set(setting);
    if (recipe.find("5s") != std::string::npos)
      for (const char* setting : {"data.shots=2", "data.query=2"}) set(setting);
    return words;
  }
  json train(const std::string& recipe, const std::string& out, const std::string& device, int updates,
             const Words& more = {}) {
    Words words = {"train", kRecipes + "/" + recipe, "--out", path(out), "--device", device};
    for (const Words& part : {small(recipe, updates), more}) words.insert(words.end(), part.begin(), part.end());
    return result_of(words);
  }
  json resume(const std::string& out, const std::string& device, int updates) {
    return result_of(
        {"train", "--resume", path(out), "--device", device, "--set", "run.updates=" + std::to_string(updates)});
  }

  /// A convolution's bias in front of batch norm moves nothing: its gradient is rounding, which Adam makes steps of.
  static bool has_no_gradient(const std::string& name, const TensorFile& file) {
    const std::size_t end = name.rfind(".bias");
    return end != std::string::npos && file.tensors.at(name.substr(0, end) + ".weight").shape.size() == 4;
  }
  /// Every number of both logs, and every tensor of both last checkpoints.
  void expect_equal_runs(const std::string& a, const std::string& b, double allowed, bool with_norm = true) {
    std::istringstream first(file_bytes(path(a) + "/log.jsonl")), second(file_bytes(path(b) + "/log.jsonl"));
    std::string line, other;
    int lines = 0;
    while (std::getline(first, line)) {
      ASSERT_TRUE(std::getline(second, other)) << "a line less after " << line;
      json one = json::parse(line), two = json::parse(other);
      for (json* logged : {&one, &two}) {
        EXPECT_TRUE((*logged)["device"].is_string()) << *logged;
        logged->erase("device");  // each its own
      }
      if (!with_norm) one.erase("gradient_norm"), two.erase("gradient_norm");
      expect_near(one, two, allowed, line + "\n" + other);
      ++lines;
    }
    EXPECT_GT(lines, 0);
    EXPECT_FALSE(std::getline(second, other)) << "a line more: " << other;
    const TensorFile x = read_tensors(path(a) + "/last.safetensors"), y = read_tensors(path(b) + "/last.safetensors");
    for (const auto& [name, tensor] : x.tensors) {
      if (name.rfind("layers.", 0) != 0 || has_no_gradient(name, x)) continue;
      ASSERT_TRUE(y.tensors.contains(name)) << name;
      const std::vector<double>&e = tensor.values, &v = y.tensors.at(name).values;
      ASSERT_EQ(e.size(), v.size()) << name;
      double difference = 0, norm = 0;
      for (std::size_t i = 0; i < e.size(); ++i) difference += std::pow(v[i] - e[i], 2), norm += std::pow(e[i], 2);
      EXPECT_LE(std::sqrt(difference), allowed * std::sqrt(norm) + 1e-9) << name;
    }
  }
  static void expect_near(const json& a, const json& b, double allowed, const std::string& where) {
    ASSERT_EQ(a.type(), b.type()) << where;
    if (a.is_number_float()) {
      EXPECT_NEAR(a.get<double>(), b.get<double>(), allowed * (testing::kSmallestScale + std::fabs(a.get<double>())))
          << where;
    } else if (a.is_object() || a.is_array()) {
      ASSERT_EQ(a.size(), b.size()) << where;
      for (auto one = a.begin(), two = b.begin(); one != a.end(); ++one, ++two) expect_near(*one, *two, allowed, where);
    } else {
      EXPECT_EQ(a, b) << where;
    }
  }

  std::string name_;
  Folder folder_;
};

TEST_F(CudaProgram, TheSinusoidTrainsAsOnTheCpu) {
  const json result = train("sinusoid_maml.toml", "cuda", "cuda", 60);
  EXPECT_EQ(result["device"], name_);
  train("sinusoid_maml.toml", "cpu", "cpu", 60);
  expect_equal_runs("cpu", "cuda", testing::kTrainingTolerance);
}

TEST_F(CudaProgram, OmniglotTrainsAsOnTheCpu) {
  write_small_omniglot(folder_, 6);
  const Words sizes = {"--set", "data.ways=3", "--set", "model.filters=8", "--set", "run.tasks=3"};
  const json result = train("omniglot_5w1s_maml.toml", "cuda", "cuda", 8, sizes);
  EXPECT_EQ(result["device"], name_);
  train("omniglot_5w1s_maml.toml", "cpu", "cpu", 8, sizes);
  expect_equal_runs("cpu", "cuda", testing::kTrainingTolerance);
}

TEST_F(CudaProgram, EveryRecipeRuns) {
  write_small_omniglot(folder_, 6);
  int count = 0;
  for (const auto& entry : fs::directory_iterator(kRecipes)) {
    const std::string recipe = entry.path().filename().string();
    SCOPED_TRACE(recipe);
    const json result = train(recipe, recipe + ".cuda", "cuda", 4);
    EXPECT_EQ(result["updates"], 4);
    EXPECT_EQ(result["device"], name_);
    train(recipe, recipe + ".cpu", "cpu", 4);
    // An inner Adam makes steps of the rounding in those biases too, and Reptile's gradient is its steps.
    expect_equal_runs(recipe + ".cpu", recipe + ".cuda", testing::kTrainingTolerance,
                      recipe != "omniglot_5w1s_reptile.toml");
    const json evaluation = result_of({"evaluate", path(recipe + ".cuda"), "--tasks", "2", "--device", "cuda"});
    EXPECT_EQ(evaluation["device"], name_);
    ++count;
  }
  EXPECT_GE(count, 14);
}

TEST_F(CudaProgram, ACheckpointMovesToTheCpuAndBack) {
  write_small_omniglot(folder_, 6);
  for (const std::string recipe : {"sinusoid_maml.toml", "omniglot_5w1s_maml.toml", "omniglot_5w1s_meta_sgd.toml"}) {
    SCOPED_TRACE(recipe);
    train(recipe, recipe + ".straight", "cpu", 12);
    train(recipe, recipe + ".moved", "cuda", 4);
    EXPECT_EQ(resume(recipe + ".moved", "cpu", 8)["updates"], 8);
    EXPECT_EQ(resume(recipe + ".moved", "cuda", 12)["device"], name_);
    std::istringstream lines(file_bytes(path(recipe + ".moved") + "/log.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const json logged = json::parse(line);
      const bool on_cpu = logged["update"] > 4 && logged["update"] <= 8;
      EXPECT_EQ(logged["device"].get<std::string>() == name_, !on_cpu) << line;
    }
    expect_equal_runs(recipe + ".straight", recipe + ".moved", testing::kTrainingTolerance);
  }
}

TEST_F(CudaProgram, ARunThatIsOverSaysWhatItComputedIn) {
  train("sinusoid_maml.toml", "tf32", "cuda", 2, {"--set", "device.precision=tf32"});
  EXPECT_EQ(resume("tf32", "cuda", 2)["precision"], "tf32");
}

/// No other GPU's numbers stand for those of the one that is here.
TEST_F(CudaProgram, PlanIsForTheGpuThatIsHere) {
  const json plan = result_of({"plan", "--device", "cuda"});
  EXPECT_EQ(plan["machine"].get<std::string>().find("h100"), std::string::npos) << plan["machine"];
  const Finished done = run({"plan", "--device", "cuda", "--set", "device.ordinal=900"});
  EXPECT_EQ(done.status, 1);
  EXPECT_NE(done.error.find("--machine h100"), std::string::npos) << done.error;
}

/// The same line, whoever is asked first.
TEST_F(CudaProgram, PlanRefusesTheImagesThatTrainRefuses) {
  write_small_omniglot(folder_, 6);
  const auto refusal = [&](Words words) {
    words.insert(words.begin() + 1, kRecipes + "/omniglot_5w1s_maml.toml");
    for (const Words& part : {small("omniglot", 2), Words{"--device", "cuda", "--set", "run.memory_limit=100000"}})
      words.insert(words.end(), part.begin(), part.end());
    const Finished done = run(words);
    EXPECT_EQ(done.status, 1) << done.out;
    return done.error;
  };
  const std::string said = refusal({"plan"});
  EXPECT_EQ(refusal({"train", "--out", path("run")}), said);
  EXPECT_NE(said.find("the limit is 100000"), std::string::npos) << said;
}

/// What bench measures is the device's memory: the arena, and little beside it.
TEST_F(CudaProgram, BenchMeasuresTheDevicesMemory) {
  const json bench = result_of({"bench", "--device", "cuda", "--rounds", "1", "--set", "run.tasks=64", "--set",
                                "model.hidden=[128,128]", "--set", "data.shots=50", "--set", "data.query=50"});
  for (const json& row : bench["results"]) {
    const double measured = row["bytes"].get<double>(), planned = row["planned_bytes"].get<double>();
    EXPECT_GE(measured, planned) << row;
    EXPECT_LE(measured, planned + 64e6) << row;
  }
}

TEST_F(CudaProgram, ResumedItEndsInTheSameFiles) {
  train("sinusoid_maml.toml", "straight", "cuda", 12);
  train("sinusoid_maml.toml", "resumed", "cuda", 8);
  resume("resumed", "cuda", 12);
  for (const char* file : {"log.csv", "log.jsonl", "last.safetensors", "best.safetensors"})
    EXPECT_TRUE(file_bytes(path("straight/") + file) == file_bytes(path("resumed/") + file)) << file;
}

}  // namespace
}  // namespace cumeta::test
