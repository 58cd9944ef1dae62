// SPDX-License-Identifier: Apache-2.0
// A run that is killed at random moments and resumed ends in the files of one that never stopped; so does a run that
// was asked to stop.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
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

class KillResume : public ::testing::Test {
 protected:
  std::vector<std::string> arguments(const std::string& how, const std::string& run) const {
    return {"train", CUMETA_SOURCE_DIR "/recipes/sinusoid_maml.toml",
            how,     folder_.path(run),
            "--set", "run.updates=3000",
            "--set", "run.tasks=4",
            "--set", "run.report_every=50",
            "--set", "run.checkpoint_every=130",
            "--set", "run.validate_every=200",
            "--set", "run.validate_tasks=10"};
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

TEST_F(KillResume, FiveRandomKills) {
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(finish("--out", "whole").status, 0);
  const double whole = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::mt19937 random(std::random_device{}());
  int killed = 0;
  for (int kill = 0; kill < 5; ++kill) {
    Process process(CUMETA_PROGRAM, arguments("--resume", "killed"), folder_.path());
    const double wait = whole * 0.4 * static_cast<double>(random() % 1000) / 1000;
    std::this_thread::sleep_for(std::chrono::duration<double>(wait));
    if (process.running()) process.signal(SIGKILL);
    killed += process.wait().status == 128 + SIGKILL ? 1 : 0;
  }
  RecordProperty("killed", killed);
  const Finished done = finish("--resume", "killed");
  ASSERT_EQ(done.status, 0) << done.error;
  expect_equal_runs("whole", "killed");
}

TEST_F(KillResume, AskedToStopItSavesAndEndsWithStatusZero) {
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
                stopped.out.find("3000 updates") != std::string::npos)
        << stopped.out;
    ASSERT_EQ(finish("--resume", "stopped").status, 0);
    expect_equal_runs("whole", "stopped");
  }
}

}  // namespace
}  // namespace cumeta::test
