// SPDX-License-Identifier: Apache-2.0
// A run that is killed at random moments and resumed ends in the files of one that never stopped; so does a run that
// was asked to stop.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>
#include <thread>

#include "tests/support/pictures.h"
#include "tests/support/program.h"

namespace cumeta::test {
namespace {

namespace fs = std::filesystem;

std::map<std::string, std::string> files_of(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder))
    files[entry.path().filename().string()] = file_bytes(entry.path().string());
  return files;
}

struct Experiment {
  const char *name, *recipe;
  int updates;
  std::vector<std::string> settings;
};

class KillResume : public ::testing::TestWithParam<Experiment> {
 protected:
  void SetUp() override {
    if (images()) write_small_omniglot(folder_, 6);
  }
  bool images() const { return std::string(GetParam().recipe).find("omniglot") != std::string::npos; }
  std::vector<std::string> arguments(const std::string& how, const std::string& run) const {
    std::vector<std::string> words = {"train", std::string(CUMETA_SOURCE_DIR "/recipes/") + GetParam().recipe, how,
                                      folder_.path(run)};
    if (images()) words.insert(words.end(), {"--data", folder_.path()});
    words.insert(words.end(), {"--set", "run.updates=" + std::to_string(GetParam().updates)});
    for (const std::string& setting : GetParam().settings) words.insert(words.end(), {"--set", setting});
    return words;
  }
  Finished finish(const std::string& how, const std::string& run) {
    return Process(CUMETA_PROGRAM, arguments(how, run), folder_.path()).wait();
  }
  void expect_equal_runs(const std::string& a, const std::string& b) {
    const auto first = files_of(folder_.path(a)), second = files_of(folder_.path(b));
    for (const auto& [name, bytes] : first) {
      ASSERT_TRUE(second.contains(name)) << name;
      EXPECT_TRUE(bytes == second.at(name)) << name << " differs";
    }
    EXPECT_EQ(first.size(), second.size());
  }

  Folder folder_;
};

/// Another one every time; a failure says it. CUMETA_KILL_SEED draws the same shares of a run again, whose length is
/// the machine's.
unsigned seed_of_kills() {
  const char* given = std::getenv("CUMETA_KILL_SEED");
  return given ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : std::random_device{}();
}

TEST_P(KillResume, FiveRandomKills) {
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(finish("--out", "whole").status, 0);
  const double whole = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const unsigned seed = seed_of_kills();
  SCOPED_TRACE("repeat it with CUMETA_KILL_SEED=" + std::to_string(seed) + "; a whole run took " +
               std::to_string(whole) + " s");
  std::printf("CUMETA_KILL_SEED=%u\n", seed);
  std::mt19937 random(seed);
  // A process that ended before its kill has made the run whole: it is compared, and the next ones begin a run anew and
  // are killed sooner. Until five were killed, and of those one after its first checkpoint.
  constexpr int most = 60;
  double latest = whole / 3;
  int killed = 0, killed_with_checkpoint = 0, processes = 0;
  for (; (killed < 5 || killed_with_checkpoint == 0) && processes < most; ++processes) {
    Process process(CUMETA_PROGRAM, arguments("--resume", "killed"), folder_.path());
    const double wait = latest * static_cast<double>(random() % 1000) / 1000;
    std::this_thread::sleep_for(std::chrono::duration<double>(wait));
    if (process.running()) process.signal(SIGKILL);
    const Finished ended = process.wait();
    if (ended.status == 128 + SIGKILL) {
      ++killed;
      const bool checkpoint = fs::exists(folder_.path("killed/last.safetensors"));
      killed_with_checkpoint += checkpoint ? 1 : 0;
      if (!checkpoint) latest *= 1.2;  // a machine that has become slower
      continue;
    }
    ASSERT_EQ(ended.status, 0) << ended.error;
    expect_equal_runs("whole", "killed");
    fs::remove_all(folder_.path("killed"));
    latest *= 0.8;
  }
  ASSERT_GE(killed, 5) << "of " << processes << " processes";
  ASSERT_GE(killed_with_checkpoint, 1) << "all " << killed << " kills came before the first checkpoint";
  const Finished done = finish("--resume", "killed");
  ASSERT_EQ(done.status, 0) << done.error;
  expect_equal_runs("whole", "killed");
}

TEST_P(KillResume, AskedToStopItSavesAndEndsWithStatusZero) {
  ASSERT_EQ(finish("--out", "whole").status, 0);
  for (const int signal : {SIGINT, SIGTERM}) {
    SCOPED_TRACE(signal);
    fs::remove_all(folder_.path("stopped"));
    Process process(CUMETA_PROGRAM, arguments("--out", "stopped"), folder_.path());
    while (process.running() && !fs::exists(folder_.path("stopped/last.safetensors")))
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    process.signal(signal);
    const Finished stopped = process.wait();
    EXPECT_EQ(stopped.status, 0) << stopped.error;
    EXPECT_TRUE(stopped.out.find("stopped at update") != std::string::npos ||
                stopped.out.find(std::to_string(GetParam().updates) + " updates") != std::string::npos)
        << stopped.out;
    ASSERT_EQ(finish("--resume", "stopped").status, 0);
    expect_equal_runs("whole", "stopped");
  }
}

// A regression, and images through convolutions and batch norm that keeps running statistics.
INSTANTIATE_TEST_SUITE_P(, KillResume,
                         ::testing::Values(Experiment{"sinusoid",
                                                      "sinusoid_maml.toml",
                                                      3000,
                                                      {"run.tasks=4", "run.report_every=50", "run.checkpoint_every=130",
                                                       "run.validate_every=200", "run.validate_tasks=10"}},
                                           Experiment{"omniglot",
                                                      "omniglot_5w1s_maml.toml",
                                                      300,
                                                      {"run.tasks=2", "run.report_every=10", "run.checkpoint_every=13",
                                                       "data.ways=2", "model.filters=4",
                                                       "model.norm.statistics=running", "run.validate_every=0"}}),
                         [](const auto& instance) { return std::string(instance.param.name); });

}  // namespace
}  // namespace cumeta::test
