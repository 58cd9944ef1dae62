// SPDX-License-Identifier: Apache-2.0
// Damaged files through every door of the library and the recipes' parser: an Error of one line or a sound result,
// never another exception, a crash, a changed learner, or memory that only a forged number asked for. CUMETA_FUZZ=N: N
// mutants per door instead of 1500. CUMETA_FUZZ_SEED=S: others than those of seed 1.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <new>

#include "app/labelled_examples.h"
#include "app/recipe.h"
#include "app/run_folder.h"
#include "cumeta/error.h"
#include "src/data/png_image.h"
#include "tests/support/damage.h"
#include "tests/support/pictures.h"

namespace {
/// The largest block that anything asked for.
std::atomic<std::size_t> largest_block{0};
void note_block(std::size_t size) {
  std::size_t seen = largest_block.load();
  while (size > seen && !largest_block.compare_exchange_weak(seen, size)) {}
}
}  // namespace

#ifdef __SANITIZE_ADDRESS__
extern "C" void __sanitizer_malloc_hook(const volatile void*, std::size_t size) { note_block(size); }
#else
// Inlined, their malloc and free would seem to the compiler to be paired with the wrong partners.
[[gnu::noinline]] void* operator new(std::size_t size) {
  note_block(size);
  if (void* block = std::malloc(size == 0 ? 1 : size)) return block;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* block) noexcept { std::free(block); }
[[gnu::noinline]] void operator delete(void* block, std::size_t) noexcept { std::free(block); }
#endif

namespace cumeta {
namespace {

namespace fs = std::filesystem;
using test::Damage;

/// More than any of these small files can mean, far less than a forged number asks for.
constexpr std::size_t most_bytes = std::size_t{8} << 20;

std::uint64_t setting(const char* name, std::uint64_t fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

class Fuzz : public testing::Test {
 protected:
  /// Knocks with damaged copies: make(damage) is the copy, open() goes through the door. `share`: at least one of so
  /// many copies must have been refused, or the damage does not bite.
  template <class Make, class Open>
  void knock(Make make, Open open, std::uint64_t portion = 1) {
    const std::uint64_t mutants = setting("CUMETA_FUZZ", 1500) / portion, first = setting("CUMETA_FUZZ_SEED", 1) << 32;
    std::uint64_t refused = 0;
    for (std::uint64_t i = 0; i < mutants && !HasFailure(); ++i) {
      Damage damage(first + i);
      const std::string copy = make(damage);
      SCOPED_TRACE("mutant " + std::to_string(i) + ", kept as " + kept());
      largest_block = 0;
      try {
        open(copy);
      } catch (const Error& error) {
        ++refused;
        const std::string text = error.what();
        EXPECT_FALSE(text.empty());
        EXPECT_EQ(text.find('\n'), std::string::npos) << text;
        EXPECT_LT(text.size(), 4096U) << text.substr(0, 400);
      } catch (const std::exception& error) { ADD_FAILURE() << "another exception: " << error.what(); }
      EXPECT_LE(largest_block.load(), most_bytes);
      if (HasFailure()) fs::copy_file(path_, kept(), fs::copy_options::overwrite_existing);
    }
    if (HasFailure()) return;
    EXPECT_GT(refused * 5, mutants) << refused << " of " << mutants << " mutants were refused";
  }
  const std::string& put(const std::string& name, const std::string& bytes) {
    folder_.put(name, bytes);
    return path_ = folder_.path(name);
  }
  static std::string kept() {
    return testing::TempDir() + testing::UnitTest::GetInstance()->current_test_info()->name() + ".damaged";
  }

  test::Folder folder_;
  std::string path_;
};

Model small_model() {
  return {features(2),
          {Linear{.outputs = 3}, BatchNorm{.statistics = Statistics::running}, Relu{}, Linear{.outputs = 2}},
          {}};
}
Learner small_learner() {
  return Learner(small_model(), MetaSgd{.steps = 2, .rate = 0.1},
                 {.device = Device::cpu, .optimizer = Adam{}, .threads = 1});
}

TEST_F(Fuzz, CheckpointsAreRefusedAndChangeNothing) {
  Learner learner = small_learner();
  learner.save(folder_.path("whole"), "[run]\nseed = 1\n");
  const std::string whole = test::file_bytes(folder_.path("whole"));
  const std::vector<double> parameters = learner.parameters(), rates = learner.rates();
  knock([&](Damage& damage) { return damage.bytes(whole); },
        [&](const std::string& copy) {
          put("copy", copy);
          try {
            learner.load(path_);
          } catch (const Error&) {
            EXPECT_EQ(learner.parameters(), parameters);
            EXPECT_EQ(learner.rates(), rates);
            throw;
          }
          EXPECT_EQ(copy, whole) << "a damaged checkpoint was loaded";
        });
}

TEST_F(Fuzz, CheckpointsWithForgedHeaders) {
  Learner learner = small_learner();
  learner.save(folder_.path("whole"), "[run]\nseed = 1\n");
  const std::string whole = test::file_bytes(folder_.path("whole"));
  knock([&](Damage& damage) { return damage.safetensors(whole); },
        [&](const std::string& copy) {
          const std::vector<double> before = learner.parameters();
          put("copy", copy);
          try {
            Learner::recipe_in(path_);
            learner.load(path_);
          } catch (const Error&) {
            EXPECT_TRUE(learner.parameters() == before);
            learner.load_parameters(path_);
          }
        });
}

TEST_F(Fuzz, TaskFiles) {
  const std::string header = R"({"support_x":{"dtype":"F32","shape":[2,3,2],"data_offsets":[0,48]},)"
                             R"("query_x":{"dtype":"F32","shape":[2,1,2],"data_offsets":[48,64]},)"
                             R"("support_y":{"dtype":"I32","shape":[2,3],"data_offsets":[64,88]},)"
                             R"("query_y":{"dtype":"I32","shape":[2,1],"data_offsets":[88,96]}})";
  std::string data(96, '\0');
  for (std::size_t i = 64; i < 96; i += 4) data[i] = static_cast<char>(i / 4 % 2);
  const std::string whole = test::sealed_safetensors(header, data);
  const auto open = [&](const std::string& copy) {
    put("copy", copy);
    const Episodes episodes(TaskFile{.test_path = path_}, Subset::test, 1);
    const auto rows = static_cast<std::size_t>(episodes.support() + episodes.query());
    std::vector<float> x(rows * static_cast<std::size_t>(episodes.input().size())),
        t(rows * static_cast<std::size_t>(episodes.targets()));
    episodes.draw(0, 0, 1, x, t);
  };
  open(whole);
  knock([&](Damage& damage) { return damage.below(2) == 0 ? damage.safetensors(whole) : damage.bytes(whole); }, open);
}

TEST_F(Fuzz, ExamplesToAdaptTo) {
  const std::string whole = test::sealed_safetensors(
      R"({"x":{"dtype":"F64","shape":[2,1],"data_offsets":[0,16]},"y":{"dtype":"F32","shape":[2,1],"data_offsets":[16,24]}})",
      std::string(24, '\0'));
  const app::Recipe recipe = app::parse_recipe(app::default_recipe());
  const auto open = [&](const std::string& copy) { app::read_examples(put("copy", copy), "support", recipe, {}); };
  open(whole);
  knock([&](Damage& damage) { return damage.below(2) == 0 ? damage.safetensors(whole) : damage.bytes(whole); }, open);
}

constexpr const char* recipe_words[] = {"run",
                                        "seed",
                                        "updates",
                                        "tasks",
                                        "threads",
                                        "memory_limit",
                                        "device",
                                        "kind",
                                        "cuda",
                                        "reference",
                                        "algorithm",
                                        "maml",
                                        "anil",
                                        "meta_sgd",
                                        "reptile",
                                        "order",
                                        "first",
                                        "steps",
                                        "rate",
                                        "rate_per_step",
                                        "rate_learned",
                                        "first_adapted_layer",
                                        "batch",
                                        "plan",
                                        "chunk",
                                        "activations",
                                        "recompute",
                                        "data",
                                        "sinusoid",
                                        "omniglot",
                                        "image_folder",
                                        "ways",
                                        "shots",
                                        "query",
                                        "root",
                                        "amplitude",
                                        "optimizer",
                                        "sgd",
                                        "momentum",
                                        "schedule",
                                        "clip_norm",
                                        "model",
                                        "input",
                                        "layers",
                                        "hidden",
                                        "conv4",
                                        "mlp",
                                        "filters",
                                        "blocks",
                                        "pool",
                                        "head",
                                        "flatten",
                                        "stride",
                                        "kernel",
                                        "padding",
                                        "outputs",
                                        "linear",
                                        "conv2d",
                                        "batch_norm",
                                        "max_pool2d",
                                        "softmax_cross_entropy",
                                        "mean_squared_error",
                                        "reduction",
                                        "sum_over_ways",
                                        "evaluate",
                                        "statistics",
                                        "running",
                                        "support",
                                        "initializer",
                                        "\"512 MiB\"",
                                        "[5, 10]",
                                        "[1, 28, 28]"};

void plan_everywhere(const app::Recipe& recipe) {
  const TaskSizes sizes = recipe.sizes();
  for (const Device device : {Device::cpu, Device::cuda}) {
    PlanOptions options;
    options.device = device;
    options.machine = device == Device::cuda ? cuda_machine("h100") : Machine(cpu_machine(2));
    options.memory_limit = recipe.options.memory_limit, options.chunk = recipe.options.chunk;
    options.activations = recipe.options.activations;
    const Plan made = plan(recipe.model, recipe.algorithm, sizes, options);
    EXPECT_GT(made.bytes, 0);
    EXPECT_FALSE(made.text().empty());
  }
}

/// The published recipes, and one that names every layer.
std::vector<std::string> recipe_texts() {
  std::vector<std::string> texts;
  for (const auto& entry : fs::directory_iterator(CUMETA_SOURCE_DIR "/recipes"))
    texts.push_back(test::file_bytes(entry.path().string()));
  std::sort(texts.begin(), texts.end());
  texts.emplace_back(
      "[data]\nkind = \"image_folder\"\nroot = \"x\"\nheight = 12\nwidth = 12\nways = 3\nshots = 2\nquery = 2\n"
      "[run]\nmemory_limit = \"2 GiB\"\n[algorithm]\nsteps = 3\nrate_learned = true\nrate_per_layer = true\n"
      "[model]\nlayers = [{ kind = \"conv2d\", filters = 8, kernel = 3, stride = 1, padding = 1 }, { kind = "
      "\"batch_norm\" }, { kind = \"relu\" }, { kind = \"max_pool2d\", kernel = 2, stride = 2 }, { kind = \"flatten\" "
      "}, { kind = \"linear\", outputs = 7 }, { kind = \"leaky_relu\", slope = 0.1 }, { kind = \"tanh\" }, { kind = "
      "\"linear\", outputs = 3 }]\n");
  return texts;
}

TEST_F(Fuzz, Recipes) {
  const std::vector<std::string> texts = recipe_texts();
  const auto open = [&](const std::string& copy) {
    put("copy.toml", copy);
    app::RecipeTable table = app::read_recipe(path_);
    plan_everywhere(app::parse_recipe(table));
    app::portable_recipe_text(table.table);
  };
  for (const std::string& text : texts) open(text);
  knock([&](Damage& damage) { return damage.text(texts[damage.below(texts.size())], recipe_words); }, open);
}

TEST_F(Fuzz, RecipesInJson) {
  const std::string whole =
      R"({"input":[2],"layers":[{"kind":"linear","outputs":4},{"kind":"tanh"},{"kind":"linear","outputs":2}],)"
      R"("loss":"softmax_cross_entropy","reduction":"mean","algorithm":{"kind":"maml","steps":2,"rate":0.1},"tasks":3})";
  knock([&](Damage& damage) { return damage.text(whole, recipe_words); },
        [&](const std::string& copy) { plan_everywhere(app::parse_recipe(app::read_recipe(put("copy.json", copy)))); });
}

TEST_F(Fuzz, KeysOnTheCommandLine) {
  const char* keys[] = {"algorithm.steps=2",       "algorithm.rate=0.1",         "run.tasks=4", "model.hidden=[40,40]",
                        "data.amplitude=[0.1, 5]", "run.memory_limit=\"2 GiB\"", "data.shots=5"};
  knock([&](Damage& damage) { return damage.text(keys[damage.below(std::size(keys))], recipe_words); },
        [&](const std::string& copy) {
          put("copy", copy);
          app::RecipeTable table = app::default_recipe();
          app::set_key(table, copy);
          plan_everywhere(app::parse_recipe(table));
        });
}

TEST_F(Fuzz, Pngs) {
  const auto value = [](int y, int x, int c) { return (y * 7 + x * 3 + c) % 2; };
  const std::string pictures[] = {
      test::png(105, 105, 1, test::Colour::grey, value), test::png(9, 12, 8, test::Colour::rgb, value),
      test::png(9, 12, 2, test::Colour::palette, value), test::png(9, 12, 16, test::Colour::rgb_alpha, value, true)};
  const auto open = [&](const std::string& copy) {
    put("copy.png", copy);
    const PngImage image = decode_png(std::as_bytes(std::span(copy)), path_);
    with_channels(image, 1);
    with_channels(image, 3);
  };
  for (const std::string& picture : pictures) open(picture);
  knock(
      [&](Damage& damage) {
        const std::string& picture = pictures[damage.below(std::size(pictures))];
        return damage.below(3) == 0 ? damage.bytes(picture) : damage.png(picture);
      },
      open);
}

TEST_F(Fuzz, OmniglotZips) {
  test::write_small_omniglot(folder_, 1);
  const std::string name = "images_background.zip", whole = test::file_bytes(folder_.path(name));
  const auto open = [&](const std::string& copy) {
    put(name, copy);
    const Episodes episodes(Omniglot{.root = folder_.path(), .ways = 2, .shots = 1, .query = 0});
  };
  open(whole);
  knock([&](Damage& damage) { return damage.below(3) == 0 ? damage.bytes(whole) : damage.zip(whole); }, open, 2);
}

TEST_F(Fuzz, OmniglotTables) {
  test::write_small_omniglot(folder_, 1);
  for (const std::string name : {"omniglot28_classes.tsv", "omniglot28_split_vinyals.tsv"}) {
    const std::string whole = test::file_bytes(folder_.path(name));
    static constexpr const char* words[] = {"train", "val", "test", "\t", "\n", "5", "6", "character01"};
    const auto open = [&](const std::string& copy) {
      put(name, copy);
      const Episodes episodes(Omniglot{.root = folder_.path(), .ways = 2, .shots = 1, .query = 0});
    };
    knock([&](Damage& damage) { return damage.text(whole, words); }, open, 4);
    put(name, whole);
    open(whole);
  }
}

TEST_F(Fuzz, LogsOfARun) {
  const std::string lines =
      "{\"update\":10,\"loss\":0.5,\"validation_loss\":0.25}\n{\"update\":20,\"loss\":null,\"validation_accuracy\":0.5}"
      "\n";
  for (std::uint64_t i = 0; i < setting("CUMETA_FUZZ", 1500) / 3; ++i) {
    Damage damage(i);
    const app::RunFolder folder(folder_.path());
    folder_.put("log.jsonl", damage.text(lines, recipe_words));
    folder_.put("log.csv", damage.bytes("update,loss\n10,0.5\n20,0.25\n"));
    const app::RunLog log(folder, 15);  // lines that are not whole are dropped, whatever stands in them
    const std::string kept = test::file_bytes(folder.csv());
    EXPECT_TRUE(kept.starts_with("update,loss,accuracy,") && kept.ends_with('\n')) << kept;
  }
}

}  // namespace
}  // namespace cumeta
