// SPDX-License-Identifier: Apache-2.0
// Damaged files through the program: exit status 0, 1 or 2 (a checkpoint: never 0), one line of error, and after a
// refusal no file that was not there before and none changed.   CUMETA_FUZZ=N: N mutants per command instead of 15.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>

#include "tests/support/damage.h"
#include "tests/support/pictures.h"
#include "tests/support/program.h"

namespace cumeta::test {
namespace {

namespace fs = std::filesystem;

class FuzzProgram : public testing::Test {
 protected:
  Finished run(const std::vector<std::string>& arguments) {
    return Process(CUMETA_PROGRAM, arguments, outputs_.path()).wait();
  }
  /// Every file and folder below the test's folder: path -> content.
  std::map<std::string, std::string> everything() const {
    std::map<std::string, std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(folder_.path()))
      found[entry.path().string()] = entry.is_directory() ? "folder" : file_bytes(entry.path().string());
    return found;
  }
  std::string path(const std::string& name) const { return folder_.path(name); }

  /// make(damage) writes a damaged file; the command that reads it must refuse it cleanly or (unless `always`) do its
  /// work.
  void knock(const std::function<void(Damage&)>& make, const std::vector<std::string>& command, bool always) {
    const char* text = std::getenv("CUMETA_FUZZ");
    const std::uint64_t mutants = text == nullptr ? 15 : std::strtoull(text, nullptr, 10);
    int refused = 0;
    for (std::uint64_t i = 0; i < mutants && !HasFailure(); ++i) {
      Damage damage(i);
      make(damage);
      SCOPED_TRACE(command[0] + ", mutant " + std::to_string(i));
      const auto before = everything();
      const Finished done = run(command);
      if (done.status == 0 && !always) {
        for (const auto& entry : everything())  // what it wrote would be refused or found changed the next time
          if (!before.contains(entry.first)) fs::remove_all(entry.first);
        continue;
      }
      ++refused;
      EXPECT_TRUE(done.status == 1 || done.status == 2) << done.status << ": " << done.error.substr(0, 2000);
      EXPECT_EQ(std::count(done.error.begin(), done.error.end(), '\n'), 1) << done.error.substr(0, 2000);
      EXPECT_EQ(done.out, "");
      const auto after = everything();
      EXPECT_EQ(after.size(), before.size());
      for (const auto& [name, bytes] : after) {
        const auto was = before.find(name);
        const bool known = was != before.end();
        EXPECT_TRUE(known) << name << " is new";
        EXPECT_TRUE(!known || was->second == bytes) << name << " has changed";
      }
    }
    EXPECT_GT(refused, 0) << "no mutant was refused";
  }
  std::string trained() {
    const std::string out = path("run");
    const Finished done = run({"train", "--out", out, "--set", "run.updates=4", "--set", "run.tasks=2", "--set",
                               "run.checkpoint_every=2", "--set", "run.validate_every=0", "--set", "model.hidden=[5]"});
    EXPECT_EQ(done.status, 0) << done.error;
    return out;
  }
  void put_damaged(const std::string& name, const std::string& bytes) { folder_.put(name, bytes); }

  Folder folder_, outputs_;
};

TEST_F(FuzzProgram, Checkpoints) {
  const std::string out = trained(), whole = file_bytes(out + "/last.safetensors");
  const auto flip = [&](Damage& damage) {
    std::string copy = whole;
    while (copy == whole) copy = damage.bytes(whole);
    put_damaged("run/last.safetensors", copy);
  };
  knock(flip, {"evaluate", out, "--tasks", "2"}, true);
  knock(flip, {"train", "--resume", out, "--set", "run.updates=6"}, true);
  knock([&](Damage& damage) { put_damaged("run/last.safetensors", damage.safetensors(whole)); },
        {"evaluate", path("run/last.safetensors"), "--tasks", "2"}, false);
  knock([&](Damage& damage) { put_damaged("init.safetensors", damage.bytes(whole)); },
        {"train", "--out", path("second"), "--init", path("init.safetensors"), "--set", "run.updates=1", "--set",
         "run.tasks=1", "--set", "run.validate_every=0", "--set", "model.hidden=[5]"},
        false);
}

TEST_F(FuzzProgram, ExamplesAndTasks) {
  const std::string out = trained();
  const std::string examples = sealed_safetensors(
      R"({"x":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[2,1],"data_offsets":[8,16]}})",
      std::string(16, '\0'));
  knock([&](Damage& damage) { put_damaged("support.safetensors", damage.safetensors(examples)); },
        {"adapt", out, "--support", path("support.safetensors"), "--output", path("adapted.safetensors")}, false);
  ASSERT_EQ(run({"sample", out, "--tasks", "2", "--output", path("tasks")}).status, 0);
  const std::string tasks = file_bytes(path("tasks"));
  knock(
      [&](Damage& damage) {
        put_damaged("tasks", damage.below(2) == 0 ? damage.bytes(tasks) : damage.safetensors(tasks));
      },
      {"meta-gradient", out + "/recipe.toml", "--input", path("tasks"), "--output", path("gradient")}, false);
}

TEST_F(FuzzProgram, Recipes) {
  const std::string recipe = file_bytes(CUMETA_SOURCE_DIR "/recipes/sinusoid_maml.toml");
  static constexpr const char* words[] = {"steps",   "rate",      "[[run]]", "omniglot",
                                          "reptile", "999999999", "hidden",  "second"};
  const auto make = [&](Damage& damage) { put_damaged("recipe.toml", damage.text(recipe, words)); };
  knock(make, {"plan", path("recipe.toml")}, false);
  knock(make,
        {"train", path("recipe.toml"), "--out", path("run"), "--set", "run.updates=1", "--set", "run.validate_every=0"},
        false);
}

TEST_F(FuzzProgram, Images) {
  write_small_omniglot(folder_, 2);
  const std::string zip = file_bytes(path("images_background.zip"));
  const std::vector<std::string> sample = {"sample",   CUMETA_SOURCE_DIR "/recipes/omniglot_5w1s_maml.toml",
                                           "--data",   path(""),
                                           "--set",    "data.ways=2",
                                           "--set",    "data.query=1",
                                           "--tasks",  "1",
                                           "--output", path("tasks"),
                                           "--sheets", path("sheets")};
  knock(
      [&](Damage& damage) {
        put_damaged("images_background.zip", damage.below(2) == 0 ? damage.bytes(zip) : damage.zip(zip));
      },
      sample, false);
  put_damaged("images_background.zip", zip);
  const std::string picture = png(12, 12, 8, Colour::rgb, [](int y, int x, int c) { return 9 * y + 5 * x + c; });
  for (const char* name : {"pngs/a/1.png", "pngs/a/2.png", "pngs/b/1.png", "pngs/b/2.png"}) put_damaged(name, picture);
  folder_.put(
      "folder.toml",
      "[data]\nkind = \"image_folder\"\nheight = 6\nwidth = 6\nways = 2\nshots = 1\nquery = 1\n[run]\ntasks = 1\n");
  knock([&](Damage& damage) { put_damaged("pngs/b/2.png", damage.png(picture)); },
        {"sample", path("folder.toml"), "--data", path("pngs"), "--output", path("more_tasks")}, false);
}

}  // namespace
}  // namespace cumeta::test
