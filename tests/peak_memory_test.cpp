// SPDX-License-Identifier: Apache-2.0
// Resident memory of a whole training at its highest against its plan:
//   planned <= peak <= 1.15 planned + peak of the same program on the same data with next to nothing planned
#include <gtest/gtest.h>

#include "tests/support/cli.h"

namespace cumeta::test {
namespace {

class PeakMemory : public Cli {
 protected:
  void SetUp() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "a sanitizer's own memory is no part of the plan";
#endif
    for (int label = 0; label < 4; ++label)
      for (int i = 0; i < 20; ++i)
        folder_.put(
            "data/" + std::to_string(label) + "/" + std::to_string(i) + ".png",
            png(28, 28, 8, Colour::grey, [&](int y, int x, int) { return (label * 60 + i * 3 + y * x) % 256; }));
  }

  /// Images through four convolutions of stride 1; little work per byte.
  std::vector<std::string> settings(const std::vector<std::string>& more) const {
    std::vector<std::string> words;
    const auto set = [&](const std::string& value) { words.insert(words.end(), {"--set", value}); };
    set("data={kind=\"image_folder\",height=28,width=28,channels=1,ways=2,validation_classes=2,root=\"" + path("data") +
        "\"}");
    set("model={kind=\"conv4\",filters=16,stride=1,head=\"flatten\"}");
    for (const char* value : {"run.threads=2", "run.updates=2", "run.report_every=1", "run.checkpoint_every=1"})
      set(value);
    for (const std::string& value : more) set(value);
    return words;
  }
  std::int64_t planned(const std::vector<std::string>& more) {
    std::vector<std::string> words = {"plan"};
    for (const std::string& word : settings(more)) words.push_back(word);
    return result_of(words)["bytes"].get<std::int64_t>();
  }
  std::int64_t peak(const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> words = {"train", "--out", path(name)};
    for (const std::string& word : settings(more)) words.push_back(word);
    const Finished done = run(words);
    EXPECT_EQ(done.status, 0) << done.error;
    return done.peak_bytes;
  }

  void expect_as_planned(const std::vector<std::string>& validation) {
    std::vector<std::string> large = {"run.tasks=2", "data.shots=5", "data.query=15", "algorithm.steps=5"},
                             small = {"run.tasks=1", "data.shots=1", "data.query=1", "algorithm.steps=1",
                                      "model.filters=1"};
    large.insert(large.end(), validation.begin(), validation.end());
    small.insert(small.end(), validation.begin(), validation.end());
    const std::int64_t bytes = planned(large), program = peak("small", small), all = peak("large", large);
    EXPECT_GE(bytes, 100'000'000);
    EXPECT_LE(planned(small), 1'000'000);
    EXPECT_GE(all, bytes);
    EXPECT_LE(static_cast<double>(all), 1.15 * static_cast<double>(bytes) + static_cast<double>(program))
        << "planned " << bytes << ", program and data " << program;
    RecordProperty("planned", std::to_string(bytes));
    RecordProperty("peak", std::to_string(all));
    RecordProperty("program", std::to_string(program));
  }
};

TEST_F(PeakMemory, OfTrainingIsThePlan) { expect_as_planned({"run.validate_every=0"}); }

// Validation's tasks take their memory in place of training's, not beside it.
TEST_F(PeakMemory, OfTrainingWithValidationIsThePlan) {
  expect_as_planned({"run.validate_every=1", "run.validate_tasks=4"});
}

}  // namespace
}  // namespace cumeta::test
