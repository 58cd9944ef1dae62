// SPDX-License-Identifier: Apache-2.0
// Recipes: every published one parses to its paper's settings; every mistake is one line that names the remedy.
#include "app/recipe.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <regex>

#include "app/nearest.h"
#include "app/run_folder.h"
#include "app/statistics.h"
#include "cumeta/error.h"
#include "tests/support/pictures.h"
#include "tests/support/says.h"

namespace cumeta::app {
namespace {

namespace fs = std::filesystem;

Recipe parse(const std::string& text, const std::vector<std::string>& sets = {}) {
  RecipeTable table = recipe_from_text(text, "test.toml");
  for (const std::string& set : sets) set_key(table, set);
  return parse_recipe(table);
}
const std::string sinusoid = "[data]\nkind = \"sinusoid\"\n";
const std::string omniglot = "[data]\nkind = \"omniglot\"\nroot = \"somewhere\"\n";

/// docs/recipes.md names each key that a parser asks for, in the part of its section.
TEST(Recipes, ThePageHasEveryKey) {
  const std::string page = read_text_file(CUMETA_SOURCE_DIR "/docs/recipes.md");
  const std::vector<std::string> keys = recipe_keys();
  EXPECT_GT(keys.size(), 60U);
  for (const std::string& key : keys) {
    const std::size_t begin = page.find("## [" + key.substr(0, key.find('.')) + "]");
    ASSERT_NE(begin, std::string::npos) << key;
    const std::string part = page.substr(begin, page.find("\n## ", begin) - begin);
    EXPECT_TRUE(std::regex_search(part, std::regex("\\b" + key.substr(key.rfind('.') + 1) + "\\b"))) << key;
  }
}

TEST(Recipes, EveryPublishedOneParses) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(CUMETA_SOURCE_DIR "/recipes")) {
    RecipeTable table = read_recipe(entry.path().string());
    set_key(table, "run.seed=3");
    SCOPED_TRACE(entry.path());
    const Recipe recipe = parse_recipe(table);
    EXPECT_EQ(recipe.options.seed, 3U);
    EXPECT_GT(parameter_count(recipe.model), 0);
    EXPECT_EQ(read_text_file(entry.path().string()).find("arXiv") != std::string::npos, true);
    ++count;
  }
  EXPECT_EQ(count, 14);
}

TEST(Recipes, SinusoidMamlIsThePapersCode) {
  const Recipe recipe = parse_recipe(default_recipe());
  EXPECT_EQ(parameter_count(recipe.model), 1761);
  const auto& maml = std::get<Maml>(recipe.algorithm);
  EXPECT_EQ(maml.order, Order::second);
  EXPECT_EQ(maml.steps, 1);
  EXPECT_DOUBLE_EQ(maml.rate, 0.001);
  EXPECT_EQ(recipe.run.updates, 70000);
  EXPECT_EQ(recipe.run.tasks, 25);
  EXPECT_DOUBLE_EQ(std::get<Adam>(recipe.options.optimizer).rate, 1e-3);
  EXPECT_EQ(recipe.sizes().support, 10);
  EXPECT_EQ(recipe.sizes().query, 10);
}

TEST(Recipes, OmniglotMaml) {
  const Recipe recipe = parse_recipe(read_recipe(CUMETA_SOURCE_DIR "/recipes/omniglot_5w1s_maml.toml"));
  EXPECT_EQ(recipe.model.layers.size(), 14U);
  EXPECT_EQ(parameter_count(recipe.model), 640 + 3 * (64 * 64 * 9 + 64) + 4 * 128 + 5 * 65);
  EXPECT_EQ(recipe.run.tasks, 32);
  EXPECT_DOUBLE_EQ(std::get<Maml>(recipe.algorithm).rate, 0.4);
  EXPECT_TRUE(recipe.has_batch_norm());
  EXPECT_SAYS(recipe.data(), "--data FOLDER");
}

TEST(Recipes, SetValues) {
  const Recipe recipe = parse(sinusoid, {"data.amplitude=[5,10]", "algorithm.kind=fomaml", "run.memory_limit=\"2 MiB\"",
                                         "optimizer.kind=sgd", "optimizer.momentum=0.5", "device.kind=reference"});
  EXPECT_FLOAT_EQ(std::get<Sinusoid>(*recipe.source).amplitude[1], 10);
  EXPECT_EQ(order_of(recipe.algorithm), Order::first);
  EXPECT_EQ(recipe.options.memory_limit, 2 << 20);
  EXPECT_DOUBLE_EQ(std::get<Sgd>(recipe.options.optimizer).momentum, 0.5);
  EXPECT_EQ(recipe.options.device, Device::reference);
}

TEST(Recipes, MistypedKeysNameTheNearest) {
  EXPECT_SAYS(parse(sinusoid, {"algorithm.stepz=3"}), "did you mean algorithm.steps?");
  EXPECT_SAYS(parse(sinusoid, {"algoritm.steps=3"}), "did you mean algorithm?");
  EXPECT_SAYS(parse(sinusoid, {"steps=3"}), "did you mean algorithm.steps?");
  EXPECT_SAYS(parse(sinusoid, {"seed=3"}), "did you mean run.seed?");
  EXPECT_SAYS(parse(sinusoid, {"tasks=3"}), "did you mean run.tasks?");
  EXPECT_SAYS(parse(sinusoid, {"algorithm.seed=3"}), "did you mean run.seed?");
  EXPECT_SAYS(parse("[data]\nways = 5\n", {}), "; set data.kind");
  EXPECT_SAYS(parse("[data]\nkind = \"sinusoid\"\namplitude = [1, 2]\n", {"data.kind=tasks"}),
              "replace the whole section: --set 'data={kind=..., ...}'");
  EXPECT_SAYS(parse(sinusoid, {"layers=[]"}), "did you mean model.layers?");
  EXPECT_SAYS(parse(sinusoid, {"hidden=[3]"}), "did you mean model.hidden?");
  EXPECT_SAYS(parse(sinusoid, {"clip_value=3"}), "did you mean optimizer.clip_value?");
  EXPECT_SAYS(parse(sinusoid, {"momentum=0.5"}), "did you mean optimizer.momentum?");
  EXPECT_SAYS(parse(sinusoid, {"beta1=0.5"}), "did you mean optimizer.beta1?");
  EXPECT_SAYS(parse(sinusoid, {"optimizer.momentum=0.5"}), "goes with optimizer.kind = \"sgd\" only");
  EXPECT_SAYS(parse(sinusoid, {"optimizer.momentm=0.5"}), "did you mean optimizer.momentum?");
  EXPECT_SAYS(parse(sinusoid, {"algorithm.first_adapted_layer=2"}), "goes with algorithm.kind = \"anil\" only");
  EXPECT_SAYS(parse(sinusoid, {"algorithm.updates=2"}), "did you mean run.updates?");
  EXPECT_SAYS(parse(omniglot, {"data.amplitude=[1,2]"}), "goes with data.kind = \"sinusoid\" only");
  EXPECT_SAYS(parse(sinusoid, {"data.amplitud=[1,2]"}), "did you mean data.amplitude?");
  EXPECT_SAYS(parse(sinusoid, {"algorithm.kind=mamal"}), "did you mean \"maml\"?");
  EXPECT_SAYS(parse(omniglot, {"data.warp.sheer=1"}), "did you mean data.warp.shear?");
  EXPECT_SAYS(parse(omniglot, {"model.norm.scal=true"}), "did you mean model.norm.scale?");
}

TEST(Recipes, BadValuesNameTheKeyAndTheRange) {
  EXPECT_SAYS(parse(sinusoid, {"algorithm.steps=-1"}), "algorithm.steps = -1 is not a whole number from 0 to 10000");
  EXPECT_SAYS(parse(sinusoid, {"algorithm.steps=1.5"}), "algorithm.steps = 1.5");
  EXPECT_SAYS(parse(sinusoid, {"algorithm.rate=\"fast\""}), "algorithm.rate");
  EXPECT_SAYS(parse(sinusoid, {"algorithm.rate=nan"}), "algorithm.rate");
  EXPECT_SAYS(parse(sinusoid, {"data.amplitude=[5]"}), "[low, high]");
  EXPECT_SAYS(parse(sinusoid, {"run=3"}), "is a section");
  EXPECT_SAYS(parse(sinusoid, {"run.memory_limit=\"many\""}), "512 MiB");
  EXPECT_SAYS(parse(sinusoid, {"model.reduction=sum_over_ways"}), "softmax_cross_entropy only");
  EXPECT_SAYS(parse(sinusoid, {"algorithm.kind=fomaml", "algorithm.order=second"}), "first order");
  EXPECT_SAYS(parse(sinusoid, {"oops"}), "key=value");
  EXPECT_SAYS(parse(sinusoid, {"run.seed=[1"}), "is not a TOML value");
  EXPECT_SAYS(parse("[run\nseed = 1"), "test.toml: line");
}

TEST(Recipes, NumbersNameBothBounds) {
  EXPECT_SAYS(parse(sinusoid, {"run.updates=2000000000000"}),
              "2000000000000 is not a whole number from 0 to 1000000000000");
  EXPECT_SAYS(parse(sinusoid, {"algorithm.kind=reptile", "algorithm.batch=3000000000"}), "from 0 to 2147483647");
}

/// What nothing would read is refused, with its value and what it goes with.
TEST(Recipes, KeysWithoutEffectAreRefused) {
  const auto refused = [](const std::string& text, std::vector<std::string> sets, const char* words) {
    EXPECT_SAYS(parse(text, sets), words);
  };
  const char* reptile = "algorithm.kind=reptile";
  refused(sinusoid, {"evaluate.batch=5"}, "evaluate.batch = 5 goes with algorithm.kind = \"reptile\" only");
  refused(sinusoid, {"optimizer.final_rate=0.1"}, "optimizer.final_rate = 0.1 goes with optimizer.schedule linear or");
  refused(sinusoid, {"optimizer.schedule_updates=10"}, "optimizer.schedule_updates = 10 goes with");
  refused(sinusoid, {reptile, "algorithm.beta2=0.9"},
          "algorithm.beta2 = 0.9 goes with algorithm.inner = \"adam\" only");
  refused(sinusoid, {reptile, "algorithm.eps=1e-3"}, "algorithm.eps = 0.001 goes with");
  refused(sinusoid, {reptile, "algorithm.inner_state=fresh"}, "algorithm.inner_state = 'fresh' goes with");
  refused(omniglot, {"data.train_classes=5"}, "data.train_classes = 5 goes with data.split = \"random\" only");
  refused(omniglot, {"data.validation_classes=5"}, "data.validation_classes = 5 goes with");
  refused(omniglot, {"data.split_seed=5"}, "data.split_seed = 5 goes with");
  refused(sinusoid, {"device.ordinal=7"},
          "device.ordinal = 7 is the number of a CUDA device, but device.kind is cpu; set device.ordinal=0");
  refused(sinusoid, {"device.kind=reference", "device.ordinal=7"}, "device.kind is reference");
  const std::string tasks = "[data]\nkind = \"tasks\"\n[model]\ninput = [1]\noutputs = 1\nkind = \"mlp\"\n";
  refused(tasks, {"evaluate.shots=5"}, "evaluate.shots = 5 goes with data that tasks are drawn from");
  refused(tasks, {"evaluate.query=5"}, "evaluate.query = 5 goes with");
  // Where they are read, they are taken.
  EXPECT_EQ(parse(sinusoid, {"device.kind=cuda", "device.ordinal=7"}).options.ordinal, 7);
  EXPECT_EQ(parse(sinusoid, {"device.ordinal=0"}).options.ordinal, 0);
  EXPECT_EQ(
      parse(sinusoid, {reptile, "evaluate.batch=5", "algorithm.inner=adam", "algorithm.beta2=0.9"}).evaluate.batch, 5);
  EXPECT_DOUBLE_EQ(
      parse(sinusoid, {"optimizer.schedule=cosine", "optimizer.final_rate=0.1"}).options.schedule.final_rate, 0.1);
  EXPECT_EQ(std::get<Omniglot>(*parse(omniglot, {"data.split=random", "data.train_classes=5"}).source).train_classes,
            5);
}

/// A number's bounds stand where it is used: here only that it is one.
TEST(Recipes, BoundsOfLayersAreTheModels) {
  const std::string layers =
      "[model]\ninput = [2]\nloss = \"mean_squared_error\"\nlayers = [{ kind = \"linear\", outputs = 2 }, ";
  const auto planned = [&](const std::string& layer) {
    const Recipe recipe = parse(layers + layer + ", { kind = \"linear\", outputs = 1 }]\n");
    return plan(recipe.model, recipe.algorithm, {1, 1, 1}, {});
  };
  EXPECT_SAYS(planned("{ kind = \"leaky_relu\", slope = 2 }"), "slope is 2; it must lie in [0, 1]");
  EXPECT_SAYS(planned("{ kind = \"leaky_relu\", slope = 2e7 }"), "slope is 20000000; it must lie in [0, 1]");
  EXPECT_SAYS(planned("{ kind = \"batch_norm\", momentum = 2 }"), "momentum is 2; it must lie in (0, 1]");
  EXPECT_SAYS(planned("{ kind = \"batch_norm\", eps = 0 }"), "eps is 0");
  EXPECT_SAYS(planned("{ kind = \"leaky_relu\", slope = inf }"), "slope = inf is not a finite number");
  EXPECT_SAYS(parse(sinusoid, {"optimizer.eps=nan"}), "optimizer.eps = nan is not a finite number");
}

TEST(Recipes, FlatJsonOfGoldenFiles) {
  for (const auto& entry : fs::directory_iterator(CUMETA_SOURCE_DIR "/tests/golden")) {
    if (entry.path().extension() != ".json") continue;
    SCOPED_TRACE(entry.path());
    const Recipe recipe = parse_recipe(read_recipe(entry.path().string()));
    EXPECT_GT(parameter_count(recipe.model), 0);
  }
}

TEST(Recipes, DeepJsonIsRefused) {
  const test::Folder folder;
  folder.put("deep.json", "{\"model\": " + std::string(100000, '[') + std::string(100000, ']') + "}");
  EXPECT_SAYS(read_recipe(folder.path("deep.json")), "nested");
  std::string objects;
  for (int i = 0; i < 60000; ++i) objects += "{\"a\":";
  folder.put("objects.json", objects + "1" + std::string(60000, '}'));
  EXPECT_SAYS(read_recipe(folder.path("objects.json")), "nested");
  folder.put("large.json", R"({"run": {"seed": 18446744073709551615}})");
  EXPECT_SAYS(read_recipe(folder.path("large.json")), "18446744073709551615");
}

TEST(Recipes, TextIsStableAndPortableTextHasNoMachineInIt) {
  RecipeTable a = recipe_from_text(sinusoid + "[algorithm]\nrate = 0.4\n[run]\nthreads = 2\nseed = 4\n", "a");
  RecipeTable b = recipe_from_text("[run]\nseed = 4\nthreads = 7\n[algorithm]\nrate = 0.4\n" + sinusoid, "b");
  set_value(b, "device.kind", "cpu");
  EXPECT_NE(recipe_text(a.table), recipe_text(b.table));
  EXPECT_EQ(portable_recipe_text(a.table), portable_recipe_text(b.table));
  EXPECT_NE(recipe_text(a.table).find("rate = 0.4\n"), std::string::npos) << recipe_text(a.table);
  const RecipeTable again = recipe_from_text(recipe_text(a.table), "again");
  EXPECT_EQ(recipe_text(again.table), recipe_text(a.table));
  EXPECT_EQ(parse_recipe(again).options.threads, 2);
}

TEST(Recipes, EvaluationSettings) {
  const std::string text = omniglot +
                           "ways = 5\nshots = 10\nquery = 0\n[evaluate]\nshots = 1\nquery = 2\nbatch = 5\n"
                           "[algorithm]\nkind = \"reptile\"\nbatch = 10\n";
  const Recipe recipe = parse(text);
  EXPECT_EQ(std::get<Omniglot>(evaluation_source(recipe)).shots, 1);
  EXPECT_EQ(std::get<Reptile>(evaluation_algorithm(recipe)).batch, 5);
  EXPECT_EQ(std::get<Reptile>(recipe.algorithm).batch, 10);
  // What is set for one evaluation weighs more than the recipe's [evaluate].
  EXPECT_EQ(std::get<Omniglot>(evaluation_source(parse(text, {"data.shots=3"}))).shots, 3);
}

TEST(Nearest, CountsEdits) {
  EXPECT_EQ(edit_distance("steps", "stpes"), 1);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(nearest("trian", {"plan", "train", "info"}), "train");
}

TEST(Figures, MeanIntervalAndMedian) {
  const std::vector<double> values = {1, 2, 3, 4};
  EXPECT_DOUBLE_EQ(mean_interval(values).mean, 2.5);
  EXPECT_NEAR(mean_interval(values).ci95, 1.96 * 1.2909944487358056 / 2, 1e-12);
  EXPECT_DOUBLE_EQ(median({3, 1, 2}), 2);
  EXPECT_DOUBLE_EQ(median({4, 1, 2, 3}), 2.5);
  EXPECT_TRUE(std::isinf(median({1, std::nan(""), std::nan("")})));
}

TEST(Logs, ResumingKeepsWholeLinesUpToTheCheckpoint) {
  const test::Folder folder;
  const RunFolder run(folder.path("run"));
  run.create();
  const auto line = [](std::int64_t update, double loss) {
    LogLine made;
    made.update.update = update, made.update.loss = loss;
    made.device = "cpu (of this test)";
    made.validation_loss = loss;
    return made;
  };
  {
    RunLog log(run, 0);
    for (int update = 1; update <= 4; ++update) log.write(line(update, 1.0 / update));
  }
  const std::string csv = read_text_file(run.csv()), jsonl = read_text_file(run.jsonl());
  EXPECT_NE(jsonl.find("\"device\":\"cpu (of this test)\""), std::string::npos) << jsonl;
  write_text_file(run.csv(), csv + "5,0.2,0");  // killed in the middle of a line
  write_text_file(run.jsonl(), jsonl + "{\"update\":5,");
  {
    RunLog log(run, 2);
    EXPECT_DOUBLE_EQ(log.best_kept(false).value(), 0.5);
    EXPECT_FALSE(log.best_kept(true).has_value());
    for (int update = 3; update <= 4; ++update) log.write(line(update, 1.0 / update));
  }
  EXPECT_EQ(read_text_file(run.csv()), csv);
  EXPECT_EQ(read_text_file(run.jsonl()), jsonl);
}

}  // namespace
}  // namespace cumeta::app
