// SPDX-License-Identifier: Apache-2.0
// The program from outside: every command, its JSON, its exit status, its one-line errors.
#include "tests/support/cli.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "cumeta/tensor_file.h"

namespace cumeta::test {
namespace {

namespace fs = std::filesystem;

TEST_F(Cli, EveryCommandHasHelpWithAnExample) {
  EXPECT_EQ(run({"--help"}).status, 0);
  for (const char* command :
       {"train", "evaluate", "adapt", "plan", "bench", "sample", "meta-gradient", "selftest", "info"}) {
    const Finished done = run({command, "--help"});
    EXPECT_EQ(done.status, 0) << command;
    EXPECT_NE(done.out.find("Example:\n  cumeta " + std::string(command)), std::string::npos) << done.out;
    EXPECT_NE(done.out.find("--json"), std::string::npos) << command;
  }
}

TEST_F(Cli, BadUsageIsStatusTwoAndNamesTheRemedy) {
  expect_refused({}, 2, "no command");
  expect_refused({"trian"}, 2, "did you mean train?");
  expect_refused({"train", "--sed", "a=1"}, 2, "did you mean --set?");
  expect_refused({"train", "--out", path("x"), "--set", "algorithm.stepz=1"}, 2, "did you mean algorithm.steps?");
  expect_refused({"evaluate"}, 2, "run");
  expect_refused({"evaluate", path("x"), "--tasks", "0"}, 2, "--tasks");
  expect_refused({"evaluate", path("x"), "--tasks", "many"}, 2, "--tasks");
  expect_refused({"plan", "--device", "gpu"}, 2, "cuda");
  expect_refused({"plan", "--device", "cuda", "--machine", "h1000"}, 2, "h100");
  expect_refused({"train", "--data", path("x")}, 2, "sinusoid");
  for (const char* device : {"cpu", "reference"})
    expect_refused({"train", "--out", path("x"), "--device", device, "--set", "device.precision=tf32"}, 2,
                   std::string("device.precision is tf32, device.kind is ") + device);
  expect_refused({"plan", "--device", "cuda", "--machine", "t4", "--set", "device.precision=tf32"}, 2, "7.5");
  EXPECT_FALSE(fs::exists(path("x")));
}

TEST_F(Cli, WhatIsNotThereIsStatusOne) {
  expect_refused({"train", "recipes/none.toml"}, 1, "no such recipe");
  expect_refused({"evaluate", path("none")}, 1, "neither a run's folder nor a checkpoint");
  expect_refused({"train", "--resume", path("none")}, 1, "recipe.toml");
  expect_refused(
      {"train", CUMETA_SOURCE_DIR "/recipes/omniglot_5w1s_maml.toml", "--out", path("o"), "--data", folder_.path()}, 1,
      "Omniglot");
  expect_refused({"meta-gradient", "--input", path("none"), "--output", path("g")}, 1, "none");
  EXPECT_FALSE(fs::exists(path("g")));
}

TEST_F(Cli, DataThatCannotBeUsedSayWhy) {
  const std::string omniglot = CUMETA_SOURCE_DIR "/recipes/omniglot_5w1s_maml.toml", endless(400, 'x');
  expect_refused({"train", omniglot, "--out", path("o"), "--data", endless}, 2, "--data " + endless);
  expect_refused({"train", omniglot, "--out", path("o"), "--set", "data.root=" + endless}, 1,
                 endless + "/images_background");
  // Fewer classes than ways is what was asked for, not what the data are.
  for (const char* name : {"f/a/1.png", "f/a/2.png", "f/b/1.png", "f/b/2.png"})
    folder_.put(name, png(4, 4, 8, Colour::grey, [](int, int, int) { return 9; }));
  const std::vector<std::string> images = {
      "train",
      "--out",
      path("o"),
      "--set",
      "data={kind=\"image_folder\",height=4,width=4,channels=1,ways=2,query=1,root=\"" + path("f") + "\"}",
      "--set",
      "model={layers=[{kind=\"flatten\"},{kind=\"linear\",outputs=2}]}"};
  expect_refused(images, 2, "data.validation_classes (0)");
  expect_refused(images, 2, "run.validate_every=0");
  EXPECT_FALSE(fs::exists(path("o")));
  EXPECT_EQ(run({"sample", "--tasks", "7", "--output", path("tasks.safetensors")}).status, 0);
  const std::vector<std::string> tasks = {"train",
                                          "--out",
                                          path("o"),
                                          "--set",
                                          "data={kind=\"tasks\",path=\"" + path("tasks.safetensors") + "\"}",
                                          "--set",
                                          "model={kind=\"mlp\",input=[1],outputs=1,loss=\"mean_squared_error\"}",
                                          "--set",
                                          "run.updates=2"};
  expect_refused(tasks, 2, "data.validation_path is not set");
  std::vector<std::string> blind = tasks, judged = tasks;
  blind.insert(blind.end(), {"--set", "run.validate_every=0"});
  EXPECT_EQ(run(blind).status, 0);
  expect_refused({"evaluate", path("o")}, 2, "data.test_path is not set");
  EXPECT_EQ(run({"sample", "--iteration", "2", "--tasks", "7", "--output", path("unseen.safetensors")}).status, 0);
  EXPECT_EQ(run({"evaluate", path("o"), "--set", "data.test_path=" + path("unseen.safetensors")}).status, 0);
  judged[2] = path("judged");
  judged.insert(judged.end(), {"--set", "data.validation_path=" + path("unseen.safetensors")});
  EXPECT_EQ(run(judged).status, 0);
}

TEST_F(Cli, InfoNamesEveryDevice) {
  const json info = result_of({"info"});
  EXPECT_FALSE(info["version"].get<std::string>().empty());
  EXPECT_GE(info["devices"].size(), 3U);
  for (const json& device : info["devices"]) EXPECT_FALSE(device["text"].get<std::string>().empty());
  ASSERT_EQ(info["plugins"].size(), 2U);
  EXPECT_EQ(info["plugins"][1]["plugin"], "cuda_vendor");
  for (const json& plugin : info["plugins"])
    EXPECT_EQ(plugin["loads"].get<bool>(), plugin["problem"].get<std::string>().empty()) << plugin;
}

TEST_F(Cli, PlanIsForAnyMachine) {
  const json here = result_of({"plan"});
  EXPECT_GT(here["bytes"].get<double>(), 0);
  EXPECT_GT(here["flops"].get<double>(), here["first_order_flops"].get<double>());
  EXPECT_EQ(here["order"], "second");
  const json there = result_of({"plan", "--device", "cuda", "--machine", "h100"});
  EXPECT_EQ(there["machine"], "h100");
  EXPECT_GT(there["launches"].get<int>(), 0);
  EXPECT_EQ(there["precision"], "float32");
  // The small-model program knows no TF32: its layers run one by one.
  const json tf32 = result_of({"plan", "--device", "cuda", "--machine", "h100", "--set", "device.precision=tf32"});
  EXPECT_EQ(tf32["precision"], "tf32");
  EXPECT_GT(tf32["launches"].get<int>(), there["launches"].get<int>());
  expect_refused({"plan", "--set", "run.memory_limit=1000"}, 1, "1000");
  EXPECT_EQ(there["implementation"], "own");
  const json vendor =
      result_of({"plan", "--device", "cuda", "--machine", "h100", "--set", "plan.implementation=vendor"});
  EXPECT_EQ(vendor["implementation"], "vendor");
  EXPECT_EQ(vendor["layers"][0]["by"], "vendor (cuBLAS)");
  EXPECT_EQ(vendor["layers"][1]["by"], "own");
  expect_refused({"plan", "--set", "plan.implementation=vendor"}, 2, "choose own, or device cuda");
  expect_refused({"plan", "--set", "plan.implementation=cublas"}, 2, "plan.implementation");
}

TEST_F(Cli, TrainWritesARunThatEvaluateAndAdaptRead) {
  const std::string folder = trained();
  for (const char* file : {"recipe.toml", "log.csv", "log.jsonl", "last.safetensors", "best.safetensors"})
    EXPECT_TRUE(fs::exists(folder + "/" + file)) << file;
  const std::string csv = file_bytes(folder + "/log.csv");
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 4) << csv;  // header, 10, 20 (validated), 30 (validated)
  expect_refused({"train", "--out", folder}, 2, "--resume");
  // The best checkpoint holds what adaptation needs and no moments of Adam: nothing can be resumed from it.
  EXPECT_LT(fs::file_size(folder + "/best.safetensors"), fs::file_size(folder + "/last.safetensors") / 2);
  fs::copy(folder, path("halved"), fs::copy_options::recursive);
  fs::copy_file(folder + "/best.safetensors", path("halved/last.safetensors"), fs::copy_options::overwrite_existing);
  expect_refused({"train", "--resume", path("halved")}, 1, "without the optimizer's moments");

  const json all = result_of({"evaluate", folder, "--tasks", "50", "--steps", "3", "--per-task", path("tasks.csv")});
  EXPECT_EQ(all["metric"], "loss");
  EXPECT_EQ(all["tasks"], 50);
  EXPECT_EQ(all["order"], "second");
  EXPECT_EQ(all["by_step"].size(), 4U);
  EXPECT_GT(all["by_step"][3]["ci95"].get<double>(), 0);
  EXPECT_EQ(all["diverged"], 0);
  EXPECT_EQ(all["statistics"]["batch"], all["statistics"]["support"]);
  const std::string per_task = file_bytes(path("tasks.csv"));
  EXPECT_EQ(std::count(per_task.begin(), per_task.end(), '\n'), 1 + 50 * 4);
  // Settings of the evaluation do change it, and the same settings give the same numbers.
  const json wide = result_of({"evaluate", folder, "--tasks", "50", "--steps", "3", "--set", "data.amplitude=[5,10]"});
  EXPECT_GT(wide["by_step"][0]["mean"].get<double>(), 2 * all["by_step"][0]["mean"].get<double>());
  EXPECT_EQ(result_of({"evaluate", folder, "--tasks", "50", "--steps", "3"})["by_step"], all["by_step"]);
  // Those of the training do not, and are refused.
  expect_refused({"evaluate", folder, "--set", "run.seed=2"}, 2, "evaluate.seed draws the tasks");
  expect_refused({"evaluate", folder, "--set", "optimizer.rate=1"}, 2, "--set optimizer.rate: the network is trained");

  TensorFile set;
  set.tensors["x"] = {FileTensor::Type::float32, {4, 1}, {-2, -1, 1, 2}};
  set.tensors["y"] = {FileTensor::Type::float32, {4, 1}, {0.5, 1, -1, -0.5}};
  write_tensors(path("support.safetensors"), set);
  const json adapted = result_of({"adapt", folder, "--support", path("support.safetensors"), "--query",
                                  path("support.safetensors"), "--output", path("adapted.safetensors")});
  EXPECT_EQ(adapted["predictions"].size(), 4U);
  EXPECT_GT(adapted["bytes"].get<double>(), 0);
  EXPECT_EQ(read_tensors(path("adapted.safetensors")).tensors.size(), 6U);
  const Finished table =
      run({"adapt", folder, "--support", path("support.safetensors"), "--query", path("support.safetensors")});
  EXPECT_EQ(table.out.rfind("row,target_0,output_0\n0,0.5,", 0), 0U) << table.out;
}

TEST_F(Cli, InitStartsFromTrainedWeights) {
  const std::string first = trained("first");
  const Finished done = run({"train", "--out", path("second"), "--init", first + "/last.safetensors", "--set",
                             "run.updates=0", "--set", "run.validate_every=0"});
  EXPECT_EQ(done.status, 0) << done.error;
  EXPECT_EQ(read_tensors(first + "/last.safetensors").tensors["layers.0.weight"].values,
            read_tensors(path("second") + "/last.safetensors").tensors["layers.0.weight"].values);
}

TEST_F(Cli, SampleAndMetaGradientAreWhatTrainDoes) {
  // One update of plain descent: theta' = theta - rate * meta-gradient of the sampled tasks.
  const std::vector<std::string> common = {"--set", "run.tasks=3",       "--set", "optimizer.kind=sgd",
                                           "--set", "optimizer.rate=0.5"};
  const auto with = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), common.begin(), common.end());
    const Finished done = run(arguments);
    EXPECT_EQ(done.status, 0) << done.error;
  };
  with({"train", "--out", path("one"), "--device", "reference", "--set", "run.updates=1", "--set",
        "run.validate_every=0"});
  with({"sample", "--iteration", "1", "--output", path("tasks.safetensors")});
  with({"meta-gradient", "--device", "reference", "--input", path("tasks.safetensors"), "--output",
        path("g.safetensors")});
  const TensorFile g = read_tensors(path("g.safetensors")), after = read_tensors(path("one") + "/last.safetensors");
  for (const char* name : {"layers.0.weight", "layers.2.weight", "layers.4.bias"}) {
    const auto& theta = g.tensors.at(name).values;
    const auto& slope = g.tensors.at(std::string("meta_gradient.") + name).values;
    const auto& moved = after.tensors.at(name).values;
    ASSERT_EQ(theta.size(), moved.size());
    for (std::size_t i = 0; i < theta.size(); ++i)
      EXPECT_NEAR(moved[i], theta[i] - 0.5 * slope[i], 1e-6 * (1 + std::fabs(theta[i]))) << name << " " << i;
  }
}

TEST_F(Cli, GoldenFilesThroughTheProgram) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(CUMETA_SOURCE_DIR "/tests/golden")) {
    if (entry.path().extension() != ".json") continue;
    const std::string tensors = fs::path(entry.path()).replace_extension(".safetensors").string();
    const TensorFile golden = read_tensors(tensors);
    for (const auto& [device, allowed] : {std::pair<std::string, double>{"reference", 1e-9}, {"cpu", 1e-4}}) {
      SCOPED_TRACE(entry.path().filename().string() + " on " + device);
      const Finished done = run({"meta-gradient", entry.path().string(), "--input", tensors, "--output",
                                 path("g.safetensors"), "--device", device});
      ASSERT_EQ(done.status, 0) << done.error;
      const TensorFile ours = read_tensors(path("g.safetensors"));
      double difference = 0, norm = 0;
      for (const auto& [name, tensor] : golden.tensors) {
        if (name.rfind("meta_gradient.", 0) != 0) continue;
        ASSERT_TRUE(ours.tensors.contains(name)) << name;
        const FileTensor& mine = ours.tensors.at(name);
        ASSERT_EQ(mine.shape, tensor.shape) << name;
        for (std::size_t i = 0; i < tensor.values.size(); ++i) {
          difference += std::pow(mine.values[i] - tensor.values[i], 2);
          norm += std::pow(tensor.values[i], 2);
        }
      }
      EXPECT_LE(std::sqrt(difference), allowed * std::sqrt(norm));
      ++count;
    }
  }
  EXPECT_GE(count, 2 * 20);
}

TEST_F(Cli, SelftestIsGreen) {
  const json result = result_of({"selftest", "--device", "cpu"});
  EXPECT_EQ(result["failed"], 0) << result.dump(1);
  EXPECT_GT(result["passed"].get<int>(), 100);
}

TEST_F(Cli, BenchComparesFourAlgorithms) {
  const json result = result_of({"bench", "--rounds", "2", "--set", "run.tasks=2"});
  EXPECT_EQ(result["results"].size(), 4U);
  for (const json& row : result["results"]) EXPECT_GT(row["seconds"].get<double>(), 0) << row;
  EXPECT_GT(result["peak_gflops"].get<double>(), 0);
  EXPECT_NEAR(result["second_over_first"]["law"].get<double>(), 2, 0.5);
}

TEST_F(Cli, ImagesFromTrainingToAdaptation) {
  write_small_omniglot(folder_, 6);
  const std::string recipe = CUMETA_SOURCE_DIR "/recipes/omniglot_5w1s_maml.toml";
  const std::vector<std::string> small = {"--data", folder_.path(), "--set", "data.ways=2", "--set", "model.filters=4"};
  const auto with = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), small.begin(), small.end());
    return result_of(arguments);
  };
  with({"sample", recipe, "--iteration", "2", "--tasks", "2", "--output", path("t.safetensors"), "--sheets",
        path("sheets")});
  EXPECT_EQ(read_tensors(path("t.safetensors")).tensors["support_x"].shape,
            (std::vector<std::int64_t>{2, 2, 1, 28, 28}));
  EXPECT_TRUE(fs::exists(path("sheets/task_0001.png")));
  // A sheet is whole or the old one: written beside its place, and nothing stays there.
  fs::create_hard_link(path("sheets/task_0001.png"), path("old.png"));
  with({"sample", recipe, "--iteration", "3", "--tasks", "2", "--output", path("t.safetensors"), "--sheets",
        path("sheets")});
  EXPECT_EQ(fs::hard_link_count(path("sheets/task_0001.png")), 1U);
  EXPECT_NE(file_bytes(path("old.png")), file_bytes(path("sheets/task_0001.png")));
  EXPECT_EQ(std::distance(fs::directory_iterator(path("sheets")), {}), 2);
  const json trained = with({"train", recipe, "--out", path("run"), "--set", "run.updates=4", "--set", "run.tasks=3",
                             "--set", "run.validate_every=0"});
  EXPECT_EQ(trained["updates"], 4);
  const json straight = result_of({"evaluate", path("run"), "--tasks", "20"});
  EXPECT_EQ(straight["metric"], "accuracy");
  EXPECT_NE(straight["statistics"]["batch"], straight["statistics"]["support"]);
  const json alone = result_of({"evaluate", path("run/last.safetensors"), "--data", folder_.path(), "--tasks", "20"});
  EXPECT_EQ(alone["by_step"], straight["by_step"]);
  const json warped =
      result_of({"evaluate", path("run"), "--tasks", "20", "--warp", "scale=0.3", "--per-task", path("warped.csv")});
  const json same = result_of({"evaluate", path("run"), "--tasks", "20", "--per-task", path("straight.csv")});
  EXPECT_NE(file_bytes(path("warped.csv")), file_bytes(path("straight.csv")));
  expect_refused({"evaluate", path("run"), "--warp", "sheer=1"}, 2, "shear=NUMBER");

  // Uneven class counts, a class that the support set does not have, a class named train, names instead of numbers.
  const auto square = [](int size) {
    return png(40, 40, 8, Colour::grey, [=](int y, int x, int) { return y < size && x < size ? 0 : 255; });
  };
  folder_.put("support/alpha/1.png", square(10));
  folder_.put("support/alpha/2.png", square(11));
  folder_.put("support/train/1.png", square(30));
  folder_.put("query/train/1.png", square(29));
  folder_.put("query/unknown/1.png", square(5));
  const Finished table = run({"adapt", path("run"), "--support", path("support"), "--query", path("query")});
  EXPECT_EQ(table.status, 0) << table.error;
  EXPECT_EQ(table.out.rfind("row,label,predicted,score_0,score_1\n0,train,", 0), 0U) << table.out;
  EXPECT_NE(table.out.find("\n1,,"), std::string::npos) << table.out;
  folder_.put("support/gamma/1.png", square(20));
  expect_refused({"adapt", path("run"), "--support", path("support"), "--query", path("query")}, 1,
                 "3 class folders, but the model has 2 outputs");
}

TEST_F(Cli, DamagedCheckpointsAreRefused) {
  const std::string folder = trained(), good = file_bytes(folder + "/last.safetensors");
  std::string flipped = good;
  flipped[flipped.size() / 2] = static_cast<char>(flipped[flipped.size() / 2] ^ 4);
  for (const std::string& bad : {good.substr(0, good.size() / 2), good.substr(0, 5), std::string(), flipped}) {
    folder_.put("run/last.safetensors", bad);
    expect_refused({"evaluate", folder, "--checkpoint", "last", "--tasks", "2"}, 1, "last.safetensors");
    expect_refused({"train", "--resume", folder, "--set", "run.updates=40"}, 1, "last.safetensors");
  }
}

}  // namespace
}  // namespace cumeta::test
