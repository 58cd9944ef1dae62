// SPDX-License-Identifier: Apache-2.0
// A test that runs the built program in a folder of its own: results as JSON, refusals as one line, a small trained
// run.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/pictures.h"
#include "tests/support/program.h"

namespace cumeta::test {

using nlohmann::json;

class Cli : public ::testing::Test {
 protected:
  Finished run(const std::vector<std::string>& arguments) {
    return Process(CUMETA_PROGRAM, arguments, folder_.path()).wait();
  }
  json result_of(std::vector<std::string> arguments) {
    arguments.emplace_back("--json");
    const Finished done = run(arguments);
    EXPECT_EQ(done.status, 0) << done.error;
    EXPECT_EQ(std::count(done.out.begin(), done.out.end(), '\n'), 1) << done.out;
    return json::parse(done.out, nullptr, false);
  }
  /// Status, and exactly one line on stderr that holds `words`.
  void expect_refused(const std::vector<std::string>& arguments, int status, const std::string& words) {
    const Finished done = run(arguments);
    EXPECT_EQ(done.status, status) << done.error;
    EXPECT_EQ(std::count(done.error.begin(), done.error.end(), '\n'), 1) << done.error;
    EXPECT_NE(done.error.find(words), std::string::npos) << done.error;
  }
  /// A small trained sinusoid run.
  std::string trained(const std::string& name = "run", const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"train",
                                          "--out",
                                          path(name),
                                          "--set",
                                          "run.updates=30",
                                          "--set",
                                          "run.tasks=4",
                                          "--set",
                                          "run.report_every=10",
                                          "--set",
                                          "run.checkpoint_every=15",
                                          "--set",
                                          "run.validate_every=20",
                                          "--set",
                                          "run.validate_tasks=5"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Finished done = run(arguments);
    EXPECT_EQ(done.status, 0) << done.error;
    return path(name);
  }
  std::string path(const std::string& name) const { return folder_.path(name); }

  Folder folder_;
};

}  // namespace cumeta::test
