// SPDX-License-Identifier: Apache-2.0
// What the program reports of a run: every figure is of that run or null, and no part of the algorithm goes unsaid.
#include <cmath>
#include <filesystem>
#include <sstream>

#include "cumeta/tensor_file.h"
#include "tests/support/cli.h"

namespace cumeta::test {
namespace {

const std::string recipes = CUMETA_SOURCE_DIR "/recipes/";

TEST_F(Cli, AnAccuracyThatIsNotThereIsNull) {
  const std::vector<std::string> few = {"--set", "run.updates=2",       "--set", "run.report_every=1",
                                        "--set", "run.validate_every=0"};
  const auto trained_by = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), few.begin(), few.end());
    return result_of(arguments);
  };
  write_small_omniglot(folder_, 6);
  const std::vector<std::string> images = {"train",  recipes + "omniglot_5w1s_reptile.toml",
                                           "--data", folder_.path(),
                                           "--set",  "data.ways=2",
                                           "--set",  "data.shots=2",
                                           "--set",  "algorithm.batch=2",
                                           "--set",  "model.filters=4"};
  const auto with = [](std::vector<std::string> arguments, const std::vector<std::string>& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  // Regression; Reptile without a query set; and the same with one, where there is something to count.
  for (const auto& [arguments, out, there] :
       {std::tuple(std::vector<std::string>{"train"}, "regression", false), std::tuple(images, "reptile", false),
        std::tuple(with(images, {"--set", "data.query=1"}), "judged", true)}) {
    SCOPED_TRACE(out);
    const json result = trained_by(with(arguments, {"--out", path(out)}));
    EXPECT_EQ(result["accuracy"].is_number(), there) << result["accuracy"];
    EXPECT_TRUE(result["loss"].is_number());
    std::istringstream csv(file_bytes(path(out) + "/log.csv")), lines(file_bytes(path(out) + "/log.jsonl"));
    std::string header, row, line;
    std::getline(csv, header), std::getline(csv, row), std::getline(lines, line);
    EXPECT_EQ(
        header,
        "update,loss,accuracy,gradient_norm,rate,order,skipped,validation_loss,validation_accuracy,steps,adapted");
    std::vector<std::string> cells;
    std::istringstream parts(row);
    for (std::string cell; std::getline(parts, cell, ',');) cells.push_back(cell);
    ASSERT_EQ(cells.size(), 11U) << row;
    EXPECT_EQ(cells[2].empty(), !there) << row;
    EXPECT_EQ(cells[9], result["steps"].dump()) << row;
    EXPECT_EQ(cells[10], "all");
    const json logged = json::parse(line);
    EXPECT_EQ(logged["accuracy"].is_number(), there) << line;
    EXPECT_EQ(logged["adapted"], "all");
    EXPECT_EQ(line.find("steps"), line.rfind("steps")) << line;
  }
}

TEST_F(Cli, TheAdaptedSetIsNamedEverywhere) {
  const std::string anil = recipes + "sinusoid_anil.toml";
  const json head = {"layers.4.weight", "layers.4.bias"};
  EXPECT_EQ(result_of({"plan", anil})["adapted"], head);
  EXPECT_EQ(result_of({"plan"})["adapted"], "all");
  for (const json& row : result_of({"bench", anil, "--rounds", "1", "--set", "run.tasks=1"})["results"])
    EXPECT_EQ(row["adapted"], row["algorithm"] == "anil" ? head : json("all")) << row;
  const json run = result_of({"train", anil, "--out", path("anil"), "--set", "run.updates=1", "--set", "run.tasks=2",
                              "--set", "run.validate_every=0"});
  EXPECT_EQ(run["adapted"], head);
  EXPECT_EQ(json::parse(file_bytes(path("anil") + "/log.jsonl"))["adapted"], head);
  TensorFile set;
  set.tensors["x"] = {FileTensor::Type::float32, {2, 1}, {-1, 1}};
  set.tensors["y"] = {FileTensor::Type::float32, {2, 1}, {1, -1}};
  write_tensors(path("support.safetensors"), set);
  const json adapted = result_of(
      {"adapt", path("anil"), "--support", path("support.safetensors"), "--output", path("adapted.safetensors")});
  EXPECT_EQ(adapted["adapted"], head);
  EXPECT_EQ(adapted["device"], run["device"]);
}

TEST_F(Cli, LogsAndMetaGradientsNameTheDevice) {
  const json result = result_of({"train", "--out", path("run"), "--set", "run.updates=2", "--set", "run.report_every=1",
                                 "--set", "run.tasks=2", "--set", "run.validate_every=0"});
  std::istringstream lines(file_bytes(path("run") + "/log.jsonl"));
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) EXPECT_EQ(json::parse(line)["device"], result["device"]);
  EXPECT_EQ(count, 2);
  EXPECT_EQ(run({"sample", "--tasks", "2", "--output", path("tasks.safetensors")}).status, 0);
  const json gradient = result_of({"meta-gradient", "--device", "reference", "--input", path("tasks.safetensors"),
                                   "--output", path("g.safetensors")});
  EXPECT_EQ(read_tensors(path("g.safetensors")).metadata["device"], gradient["device"].get<std::string>());
  // A checkpoint moves between devices: it names none.
  EXPECT_FALSE(read_tensors(path("run") + "/last.safetensors").metadata.contains("device"));
}

TEST_F(Cli, SampleTakesNoDevice) {
  const std::vector<std::string> sample = {"sample", "--tasks", "2", "--output", path("tasks.safetensors")};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = sample;
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  for (const char* device : {"cpu", "cuda"})
    expect_refused(with({"--device", device}), 2, std::string("--device ") + device + ": sample draws on the host");
  for (const std::string setting : {"device.kind=\"cuda\"", "device.ordinal=0", "device.precision=\"float32\""})
    expect_refused(with({"--set", setting}), 2, "--set " + setting.substr(0, setting.find('=')) + ": sample draws");
  EXPECT_FALSE(std::filesystem::exists(path("tasks.safetensors")));
  EXPECT_NE(run({"sample", "--help"}).out.find("draws on the host"), std::string::npos);
  // A recipe for a GPU is sampled as it stands.
  folder_.put("gpu.toml", file_bytes(recipes + "sinusoid_maml.toml") + "\n[device]\nkind = \"cuda\"\nordinal = 3\n");
  std::vector<std::string> of_gpu = sample;
  of_gpu.insert(of_gpu.begin() + 1, path("gpu.toml"));
  EXPECT_EQ(run(of_gpu).status, 0);
  // Its number is of no other device.
  expect_refused({"plan", path("gpu.toml"), "--device", "cpu"}, 2, "device.ordinal = 3");
  expect_refused({"selftest", "--ordinal", "3"}, 2, "device.ordinal is 3, device.kind is cpu");
}

TEST_F(Cli, PlanCountsTheImagesThatTrainKeepsOnAGpu) {
  write_small_omniglot(folder_, 6);
  const auto planned = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {
        "plan",           recipes + "omniglot_5w1s_maml.toml", "--set", "data.ways=2", "--set", "run.tasks=2", "--set",
        "model.filters=4"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  const std::vector<std::string> gpu = {"--device", "cuda", "--machine", "t4"};
  const auto on_gpu = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = planned(gpu);
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  constexpr int images = 3 * 6 * 28 * 28 + 4 * 4;  // of the classes to learn from, and where each begins
  const json counted = result_of(on_gpu({"--data", folder_.path()}));
  EXPECT_EQ(counted["resident_bytes"], images);
  EXPECT_TRUE(counted["resident_not_counted"].is_null());
  EXPECT_NE(run(on_gpu({"--data", folder_.path()})).out.find("resident     " + std::to_string(images) + " bytes"),
            std::string::npos);
  const std::string limit = std::to_string(counted["bytes"].get<std::int64_t>() + images - 1);
  expect_refused(on_gpu({"--data", folder_.path(), "--set", "run.memory_limit=" + limit, "--set", "plan.chunk=2"}), 1,
                 "beside " + std::to_string(images) + " held by resident images");
  expect_refused(on_gpu({"--data", folder_.path(), "--set", "run.memory_limit=" + std::to_string(images)}), 1,
                 "the images of the data need " + std::to_string(images) + " bytes beside the learner's");
  // Without the data the plan is of the arena, and says so.
  const std::string nowhere = path("nowhere");
  for (const auto& [more, why] : {std::pair(std::vector<std::string>{}, std::string("data.root is not set")),
                                  std::pair(std::vector<std::string>{"--set", "data.root=" + nowhere}, nowhere)}) {
    const json arena = result_of(on_gpu(more));
    EXPECT_EQ(arena["bytes"], counted["bytes"]);
    EXPECT_TRUE(arena["resident_bytes"].is_null());
    EXPECT_NE(arena["resident_not_counted"].get<std::string>().find(why), std::string::npos) << arena;
    const Finished text = run(on_gpu(more));
    EXPECT_EQ(text.status, 0) << text.error;
    EXPECT_NE(text.out.find("resident     images are not counted: "), std::string::npos) << text.out;
  }
  // On the CPU nothing is resident, nor is anything of tasks that are no images.
  EXPECT_EQ(run(planned({"--data", folder_.path()})).out.find("resident"), std::string::npos);
  EXPECT_EQ(result_of(planned({}))["resident_bytes"], 0);
  EXPECT_EQ(run({"plan", "--device", "cuda", "--machine", "t4"}).out.find("resident"), std::string::npos);
}

TEST_F(Cli, TextsSayHowTheirNumbersCameAbout) {
  const std::string method = "anil, second order, 1 step, adapts layers.4.weight layers.4.bias";
  const std::vector<std::string> recipe = {recipes + "sinusoid_anil.toml", "--set", "run.tasks=2", "--set",
                                           "evaluate.steps=1"};
  const auto says = [&](std::vector<std::string> arguments, bool on_stderr = false) {
    const Finished done = run(arguments);
    EXPECT_EQ(done.status, 0) << done.error;
    EXPECT_NE((on_stderr ? done.error : done.out).find(method), std::string::npos) << done.out << done.error;
  };
  const auto with = [&](std::vector<std::string> arguments, const std::vector<std::string>& more) {
    arguments.insert(arguments.end(), recipe.begin(), recipe.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  says(with({"train"}, {"--out", path("run"), "--set", "run.updates=1", "--set", "run.validate_every=0"}));
  says({"evaluate", path("run"), "--tasks", "3", "--per-task", path("tasks.csv")});
  const std::string per_task = file_bytes(path("tasks.csv"));
  EXPECT_EQ(per_task.rfind("task,statistics,step,loss,accuracy\n0,batch,0,", 0), 0U) << per_task;
  std::istringstream rows(per_task.substr(per_task.find('\n') + 1));
  for (std::string row; std::getline(rows, row);) EXPECT_EQ(row.back(), ',') << "no accuracy of a regression: " << row;
  EXPECT_EQ(run(with({"sample"}, {"--output", path("tasks.safetensors")})).status, 0);
  says(with({"meta-gradient"}, {"--input", path("tasks.safetensors"), "--output", path("g.safetensors")}));
  EXPECT_FALSE(read_tensors(path("g.safetensors")).tensors.contains("accuracy"));
  // A file of two tasks is two tasks, whatever is usual; and the figures say what they were drawn from.
  std::vector<std::string> of_file = {"evaluate", path("run")};
  for (const std::string& setting :
       {"data={kind=\"tasks\",test_path=\"" + path("tasks.safetensors") + "\"}", std::string("model.kind=mlp"),
        std::string("model.input=[1]"), std::string("model.outputs=1"), std::string("model.loss=mean_squared_error")})
    of_file.insert(of_file.end(), {"--set", setting});
  const json judged = result_of(of_file);
  EXPECT_EQ(judged["tasks"], 2);
  EXPECT_EQ(judged["data"]["kind"], "tasks");
  std::vector<std::string> too_many = of_file;
  too_many.insert(too_many.end(), {"--tasks", "3"});
  expect_refused(too_many, 2, "--tasks 3: the file holds 2");
  TensorFile set;
  set.tensors["x"] = {FileTensor::Type::float32, {3, 1}, {-1, 1, 2}};
  set.tensors["y"] = {FileTensor::Type::float32, {3, 1}, {1, -1, 0}};
  write_tensors(path("support.safetensors"), set);
  says({"adapt", path("run"), "--support", path("support.safetensors"), "--output", path("a.safetensors")});
  says({"adapt", path("run"), "--support", path("support.safetensors"), "--query", path("support.safetensors")}, true);
}

TEST_F(Cli, AdaptNamesTheKeyOfReptilesMiniBatches) {
  EXPECT_EQ(run({"train", recipes + "sinusoid_reptile.toml", "--out", path("run"), "--set", "run.updates=1", "--set",
                 "run.validate_every=0", "--set", "evaluate.batch=2"})
                .status,
            0);
  TensorFile set;
  set.tensors["x"] = {FileTensor::Type::float32, {3, 1}, {-1, 1, 2}};
  set.tensors["y"] = {FileTensor::Type::float32, {3, 1}, {1, -1, 0}};
  write_tensors(path("support.safetensors"), set);
  const std::vector<std::string> adapt = {"adapt",    path("run"),          "--support", path("support.safetensors"),
                                          "--output", path("a.safetensors")};
  expect_refused(adapt, 2, "3 support examples are no whole number of mini-batches of 2; --set evaluate.batch=0");
  std::vector<std::string> all_rows = adapt;
  all_rows.insert(all_rows.end(), {"--set", "evaluate.batch=0"});
  EXPECT_EQ(run(all_rows).status, 0);
}

TEST_F(Cli, OneTapeIsNeverRecomputed) {
  for (const char* single : {"algorithm.order=first", "algorithm.steps=1"}) {
    const json plan =
        result_of({"plan", "--set", "algorithm.steps=3", "--set", single, "--set", "plan.activations=recompute"});
    EXPECT_EQ(plan["recompute"], false) << single;
  }
  EXPECT_EQ(result_of({"plan", "--set", "algorithm.steps=3", "--set", "plan.activations=recompute"})["recompute"],
            true);
}

TEST_F(Cli, NotFiniteNamesTheRatesThatHold) {
  const Finished done = run({"train", "--out", path("x"), "--set", "algorithm.rates=[1e9]", "--set",
                             "algorithm.steps=5", "--set", "run.updates=3", "--set", "run.validate_every=0"});
  EXPECT_EQ(done.status, 1);
  EXPECT_NE(done.error.find("inner rate up to 1000000000"), std::string::npos) << done.error;
}

/// The row of `algorithm` in a bench's results; null when there is none.
json row_of(const json& bench, const std::string& algorithm) {
  for (const json& row : bench["results"])
    if (row["algorithm"] == algorithm) return row;
  return nullptr;
}

TEST_F(Cli, BenchTimesTheRecipesOwnAlgorithm) {
  const auto both = [&](const std::string& recipe, const std::string& algorithm, std::vector<std::string> more = {}) {
    more.insert(more.end(), {"--set", "run.tasks=2", "--set", "data.query=10"});
    std::vector<std::string> bench = {"bench", recipes + recipe, "--rounds", "1"}, plan = {"plan", recipes + recipe};
    for (auto* arguments : {&bench, &plan}) arguments->insert(arguments->end(), more.begin(), more.end());
    const json result = result_of(bench), planned = result_of(plan), row = row_of(result, algorithm);
    ASSERT_FALSE(row.is_null()) << result;
    EXPECT_EQ(row["flops"], planned["flops"]) << recipe;
    EXPECT_EQ(row["planned_bytes"], planned["bytes"]) << recipe;  // the optimizer's moments among them
    EXPECT_EQ(row["order"], planned["order"]);
    EXPECT_EQ(row["steps"], planned["steps"]);
    EXPECT_TRUE(row["bytes"].is_number()) << row;
  };
  both("sinusoid_reptile.toml", "reptile");  // mini-batches of 10 of 50 rows
  both("sinusoid_meta_sgd.toml", "meta_sgd");
  both("sinusoid_maml.toml", "maml",
       {"--set", "algorithm.rate_learned=true", "--set", "algorithm.rate_per_layer=true"});
  both("sinusoid_anil.toml", "anil", {"--set", "algorithm.first_adapted_layer=2"});
  // A schedule that ends elsewhere would move the weights from round to round.
  both("sinusoid_maml.toml", "maml", {"--set", "optimizer.schedule=linear", "--set", "optimizer.final_rate=0.1"});
}

}  // namespace
}  // namespace cumeta::test
