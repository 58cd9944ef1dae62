// SPDX-License-Identifier: Apache-2.0
// cumeta sample: the tasks that an update sees, as tensors and, of images, as PNG sheets.
#include <fmt/format.h>
#include <png.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>

#include "app/command.h"
#include "app/run_folder.h"
#include "app/task_tensors.h"
#include "cumeta/error.h"

namespace cumeta::app {
namespace {

namespace fs = std::filesystem;

struct SampleArguments {
  std::string recipe, output, sheets, subset = "train";
  std::int64_t iteration = 1;
  int tasks = 0;
  RecipeOptions options;
  bool json = false;
};

/// Images on a grid: a row per class, its support images, a gap, its query images.
struct Sheet {
  int height = 0, width = 0, channels = 1;
  std::vector<std::uint8_t> bytes;

  Sheet(int rows, int columns, const Shape& image, int gap_pixels)
      : height(rows * (image.height + 2) + 2),
        width(columns * (image.width + 2) + 2 + gap_pixels),
        channels(image.channels) {
    bytes.assign(
        static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * static_cast<std::size_t>(channels), 96);
  }
  void paste(const float* x, const Shape& image, int top, int left) {
    for (int row = 0; row < image.height; ++row)
      for (int i = 0; i < image.width * channels; ++i) {
        const float value = std::clamp(x[row * image.width * channels + i], 0.0F, 1.0F);
        bytes[static_cast<std::size_t>(((top + row) * width + left) * channels + i)] =
            static_cast<std::uint8_t>(std::lround(value * 255));
      }
  }
  /// The whole picture or the old one.
  void write(const std::string& path) const {
    png_image png;
    std::memset(&png, 0, sizeof png);
    png.version = PNG_IMAGE_VERSION;
    png.width = static_cast<png_uint_32>(width), png.height = static_cast<png_uint_32>(height);
    png.format = channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png);
    std::string file(size, '\0');
    if (png_image_write_to_memory(&png, file.data(), &size, 0, bytes.data(), 0, nullptr) == 0)
      throw FileError(fmt::format("{}: cannot be written: {}", path, png.message));
    file.resize(size);
    write_text_file(path, file);
  }
};

Sheet sheet_of(const HostTasks& tasks, int task, int ways, const Shape& image) {
  const int shots = tasks.support / ways, query = tasks.query / ways, gap = 6;
  Sheet sheet(ways, shots + query, image, gap);
  std::vector<int> used(static_cast<std::size_t>(ways), 0);
  const auto paste = [&](int rows, const std::vector<float>& x, const std::vector<float>& y, int extra) {
    for (int row = 0; row < rows; ++row) {
      const auto at = static_cast<std::size_t>(task) * static_cast<std::size_t>(rows) + static_cast<std::size_t>(row);
      const int label = static_cast<int>(y[at]), column = used[static_cast<std::size_t>(label)]++;
      sheet.paste(x.data() + at * static_cast<std::size_t>(image.size()), image, 2 + label * (image.height + 2),
                  2 + column * (image.width + 2) + extra);
    }
  };
  paste(tasks.support, tasks.support_x, tasks.support_y, 0);
  paste(tasks.query, tasks.query_x, tasks.query_y, gap);
  return sheet;
}

RecipeTable table_of(const std::string& recipe) {
  std::error_code none;
  if (recipe.empty()) return default_recipe();
  if (fs::is_directory(recipe, none) && RunFolder(recipe).holds_run())
    return recipe_from_text(read_text_file(RunFolder(recipe).recipe()), RunFolder(recipe).recipe());
  return read_recipe(recipe);
}

/// A recipe may name any device, but the caller who names one here expects something of it.
void refuse_device(const RecipeTable& table, const std::string& device) {
  std::string named = device.empty() ? "" : "--device " + device;
  for (const std::string& key : table.set_keys)
    if (key == "device" || key.starts_with("device.")) named = "--set " + key;
  if (!named.empty())
    throw UsageError(named + ": sample draws on the host, and every device draws the same tasks; leave it out");
}

void run(const SampleArguments& arguments) {
  RecipeTable table = table_of(arguments.recipe);
  apply(table, arguments.options);
  refuse_device(table, arguments.options.device);
  const Recipe recipe = parse_recipe(table);
  const Subset subset = subset_from(arguments.subset);
  const bool trains = subset == Subset::train;
  const Episodes episodes(trains ? recipe.data() : evaluation_source(recipe), subset,
                          subset == Subset::test ? recipe.evaluate.seed : recipe.options.seed);
  if (!arguments.sheets.empty() && (episodes.ways() == 0 || episodes.input().height * episodes.input().width == 1))
    throw UsageError(fmt::format("--sheets {}: these tasks are no images", arguments.sheets));
  const int tasks = arguments.tasks > 0 ? arguments.tasks : recipe.run.tasks;
  // Update n draws iteration n - 1; evaluation draws iteration 0.
  const HostTasks drawn = draw_tasks(episodes, static_cast<std::uint64_t>(arguments.iteration - 1), 0, tasks);
  TensorFile file;
  put_tasks(file, drawn, episodes.input(), episodes.targets(), episodes.ways() > 0);
  write_tensors(arguments.output, file);
  if (!arguments.sheets.empty()) {
    std::error_code error;
    fs::create_directories(arguments.sheets, error);
    if (error) throw FileError(fmt::format("{}: cannot be made a folder: {}", arguments.sheets, error.message()));
    for (int task = 0; task < tasks; ++task)
      sheet_of(drawn, task, episodes.ways(), episodes.input())
          .write(fmt::format("{}/task_{:04}.png", arguments.sheets, task));
  }
  if (arguments.json)
    print_json({{"output", arguments.output},
                {"iteration", arguments.iteration},
                {"subset", arguments.subset},
                {"tasks", tasks},
                {"support", drawn.support},
                {"query", drawn.query},
                {"ways", episodes.ways()}});
  else
    fmt::print("{}: {} {} tasks of {} + {} examples, as update {} sees them\n", arguments.output, tasks,
               arguments.subset, drawn.support, drawn.query, arguments.iteration);
}

}  // namespace

void add_sample(CLI::App& program) {
  CLI::App* command = program.add_subcommand("sample", "Write the tasks that an update sees");
  command->footer(
      "It draws on the host, whatever the recipe's device: the tasks are the same on every one.\n"
      "Updates count from 1. The file goes back in with data.kind = \"tasks\" (data.path to learn from, "
      "data.validation_path\n"
      "and data.test_path for the other subsets) and into meta-gradient --input.\n"
      "Example:\n  cumeta sample recipes/omniglot_5w1s_maml.toml --data omniglot --iteration 7 --output "
      "tasks.safetensors "
      "--sheets sheets");
  auto arguments = std::make_shared<SampleArguments>();
  command->add_option("recipe", arguments->recipe, "Recipe or folder of a run; without one the built-in sinusoid_maml");
  command->add_option("--iteration", arguments->iteration, "Which update's tasks, from 1")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 53))
      ->capture_default_str();
  command->add_option("--output", arguments->output, "Where the tasks go (safetensors)")->required()->type_name("FILE");
  command->add_option("--tasks", arguments->tasks, "How many; default run.tasks")->check(CLI::Range(1, 1 << 20));
  command->add_option("--subset", arguments->subset, "train, validation or test")->capture_default_str();
  command->add_option("--sheets", arguments->sheets, "Folder for a PNG sheet of every task")->type_name("FOLDER");
  add_recipe_options(*command, arguments->options);
  command->get_option("--device")->group("");  // known, so that its refusal says why; not offered
  add_json_option(*command, arguments->json);
  command->callback([arguments] { run(*arguments); });
}

}  // namespace cumeta::app
