// SPDX-License-Identifier: Apache-2.0
// cumeta train: meta-updates with logs, validation and checkpoints; stops, resumes and survives a kill.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>

#include "app/command.h"
#include "app/measure.h"
#include "app/progress.h"
#include "app/run_folder.h"
#include "app/statistics.h"
#include "app/stop_signal.h"
#include "cumeta/error.h"

namespace cumeta::app {
namespace {

namespace fs = std::filesystem;

struct TrainArguments {
  std::string recipe, out, resume, init;
  RecipeOptions options;
  bool json = false;
};

/// Next multiple of `every` after `update` (every = 0: never).
std::int64_t next_multiple(std::int64_t update, std::int64_t every, std::int64_t never) {
  return every == 0 ? never : std::min(never, (update / every + 1) * every);
}

/// Measures validation tasks with the settings of [evaluate].
class Validator {
 public:
  Validator(const Recipe& recipe, Learner& learner, std::string scratch)
      : recipe_(recipe),
        learner_(learner),
        scratch_(std::move(scratch)),
        episodes_(evaluation_source(recipe), Subset::validation, recipe.options.seed) {
    if (recipe.evaluate.batch) other_.emplace(recipe.model, evaluation_algorithm(recipe), recipe.options);
    if (episodes_.query() == 0)
      throw InvalidArgument(
          fmt::format("{}: validation needs query examples; set evaluate.query or data.query, or "
                      "run.validate_every=0",
                      recipe.source_table.file));
  }

  void measure_into(LogLine& line) {
    Learner& judged = other_ ? *other_ : learner_;
    if (other_) {  // another inner batch: a learner of its own, handed the state through a file
      learner_.save_trained(scratch_);
      other_->load_trained(scratch_);
      fs::remove(scratch_);
    }
    // As trained, but for Reptile, whose training never sees a task's adaptation as evaluation does it.
    const bool reptile = std::holds_alternative<Reptile>(recipe_.algorithm);
    const int steps = reptile && recipe_.evaluate.steps >= 0 ? recipe_.evaluate.steps : steps_of(recipe_.algorithm);
    const Evaluation result = measure(judged, episodes_, tasks_there(episodes_, recipe_.run.validate_tasks), steps,
                                      statistics_of(recipe_.model), tasks_at_once());
    line.validation_loss = mean_interval(column(result, result.loss, steps)).mean;
    if (recipe_.classification()) line.validation_accuracy = mean_interval(column(result, result.accuracy, steps)).mean;
  }

 private:
  /// On the host no more than training has, or there are cores: what validation takes shall lie in what training took.
  int tasks_at_once() const {
    if (recipe_.options.device == Device::cuda) return measured_at_once;
    return std::min(measured_at_once, std::max(recipe_.run.tasks, cpu_machine(recipe_.options.threads).cores));
  }

  const Recipe& recipe_;
  Learner& learner_;
  std::string scratch_;
  Episodes episodes_;
  std::optional<Learner> other_;
};

/// The recipe and the folder that the arguments mean, and whether there is a checkpoint to go on from.
struct Start {
  RecipeTable table;
  RunFolder folder{""};
  std::optional<RunLock> lock;  ///< of a folder that is there already
  bool resumed = false;
};

Start start_of(const TrainArguments& arguments) {
  Start start;
  std::error_code none;
  if (!arguments.resume.empty()) {
    start.folder = RunFolder(arguments.resume);
    if (!arguments.out.empty())
      throw UsageError("--out and --resume exclude each other: a run goes on in its own folder");
    if (!arguments.init.empty())
      throw UsageError("--init and --resume exclude each other: a run goes on from its own weights");
    if (!arguments.recipe.empty())
      start.table = read_recipe(arguments.recipe);
    else if (fs::exists(start.folder.recipe(), none))
      start.table = recipe_from_text(read_text_file(start.folder.recipe()), start.folder.recipe());
    else
      throw FileError(fmt::format("--resume {}: holds no recipe.toml; start it with train RECIPE --out {}",
                                  arguments.resume, arguments.resume));
    if (fs::is_directory(start.folder.path(), none))
      start.lock.emplace(start.folder);  // else killed before it was made
    start.resumed = fs::exists(start.folder.last(), none);
  } else {
    start.table = arguments.recipe.empty() ? default_recipe() : read_recipe(arguments.recipe);
    const std::string name = arguments.recipe.empty() ? "sinusoid_maml" : fs::path(arguments.recipe).stem().string();
    start.folder = RunFolder(arguments.out.empty() ? "runs/" + name : arguments.out);
    if (start.folder.holds_run())
      throw UsageError(fmt::format("{}: holds a run already; go on with --resume {} or choose another --out",
                                   start.folder.path(), start.folder.path()));
  }
  apply(start.table, arguments.options);
  return start;
}

class Training {
 public:
  Training(Recipe recipe, RunFolder folder, std::optional<RunLock> lock, bool resumed, bool json)
      : recipe_(std::move(recipe)),
        folder_(std::move(folder)),
        lock_(std::move(lock)),
        json_(json),
        recipe_text_(portable_recipe_text(recipe_.source_table.table)),
        episodes_(recipe_.data(), Subset::train, recipe_.options.seed),
        learner_(recipe_.model, recipe_.algorithm, recipe_.options) {
    if (resumed) learner_.load(folder_.last());
    if (recipe_.run.validate_every > 0)
      validator_.emplace(recipe_, learner_, folder_.path() + "/validation.safetensors");
  }

  void init_from(const std::string& weights) { learner_.load_parameters(weights); }

  void run() {
    const std::int64_t first = learner_.updates(), last = recipe_.run.updates;
    // What does not fit together, or into memory, is refused before there is a folder.
    learner_.train(episodes_, recipe_.run.tasks, 0, {}, 1);
    if (!lock_) {
      folder_.create();
      lock_.emplace(folder_);
      if (folder_.holds_run())
        throw UsageError(fmt::format("{}: another training has begun a run here meanwhile", folder_.path()));
    }
    write_text_file(folder_.recipe(), recipe_text(recipe_.source_table.table));
    std::error_code none;
    fs::remove(folder_.path() + "/validation.safetensors", none);  // what a kill in the middle of validation leaves
    RunLog log(folder_, first);
    best_ = log.best_kept(recipe_.classification());
    Progress progress(first, last, has_accuracy(), json_);
    const std::string method = method_text(name_of(recipe_.algorithm), order_of(recipe_.algorithm),
                                           steps_of(recipe_.algorithm), learner_.adapted_set(), recipe_.model);
    progress.note(fmt::format("{}: {}, {} tasks, {} parameters, on {}{}", folder_.path(), method, recipe_.run.tasks,
                              parameter_count(recipe_.model), learner_.device_name(),
                              first > 0 ? fmt::format(", from update {}", first) : ""));
    catch_stop_signals();
    while (learner_.updates() < last && !stop_requested()) run_to_event(last, log, progress);
    if (stop_requested() || learner_.updates() == 0) save();
    finish(first, progress);
  }

 private:
  /// Trains to the next update at which something is written, and writes it: log line, best, last, in this order.
  void run_to_event(std::int64_t last, RunLog& log, Progress& progress) {
    const RunSettings& run = recipe_.run;
    const std::int64_t now = learner_.updates();
    const std::int64_t event =
        std::min({next_multiple(now, run.report_every, last), next_multiple(now, run.validate_every, last),
                  next_multiple(now, run.checkpoint_every, last)});
    // Reading results back costs a GPU time, so it is asked less often whether to stop.
    const std::int64_t every = recipe_.options.device == Device::cuda ? std::max<std::int64_t>(run.report_every, 1) : 1;
    learner_.train(
        episodes_, run.tasks, event - now,
        [&](const Update& update) {
          latest_ = update;
          progress.tick(update);
          return !stop_requested();
        },
        every);
    const std::int64_t update = learner_.updates();
    if (update != event) return;
    const bool reports = update % run.report_every == 0 || update == last;
    const bool validates = validator_ && (update % run.validate_every == 0 || update == last);
    const bool saves = update % run.checkpoint_every == 0 || update == last;
    bool better = false;
    if (reports || validates) {
      LogLine line{
          latest_, learner_.device_name(), has_accuracy(), adapted_text(learner_.adapted_set(), recipe_.model), {}, {}};
      if (validates) {
        validator_->measure_into(line);
        better = take_best(line);
      }
      log.write(line);
      progress.line(latest_, validation_text(line));
    }
    if (better) learner_.save_trained(folder_.best(), recipe_text_);
    if (saves) save();
  }

  std::string validation_text(const LogLine& line) const {
    if (!line.validation_loss) return "";
    return fmt::format("  validation loss {:.4g}{}", *line.validation_loss,
                       line.validation_accuracy ? fmt::format("  accuracy {:.4f}", *line.validation_accuracy) : "");
  }

  bool take_best(const LogLine& line) {
    const bool accuracy = recipe_.classification();
    const double value = accuracy ? *line.validation_accuracy : *line.validation_loss;
    if (!std::isfinite(value)) return false;
    if (best_ && (accuracy ? value <= *best_ : value >= *best_)) return false;
    best_ = value;
    return true;
  }

  void save() { learner_.save(folder_.last(), recipe_text_); }

  bool has_accuracy() const { return recipe_.classification() && episodes_.query() > 0; }

  nlohmann::json result(bool stopped, double seconds) {
    nlohmann::json best = nullptr;
    if (best_) best = {{"metric", recipe_.classification() ? "accuracy" : "loss"}, {"value", *best_}};
    const bool trained = latest_.update > 0;
    const Plan plan = learner_.plan_for({recipe_.run.tasks, episodes_.support(), episodes_.query()});
    return {{"run", folder_.path()},
            {"updates", learner_.updates()},
            {"stopped", stopped},
            {"loss", trained ? nlohmann::json(latest_.loss) : nlohmann::json()},
            {"accuracy", trained && has_accuracy() ? nlohmann::json(latest_.accuracy) : nlohmann::json()},
            {"gradient_norm", trained ? nlohmann::json(latest_.gradient_norm) : nlohmann::json()},
            {"algorithm", name_of(recipe_.algorithm)},
            {"order", to_string(order_of(recipe_.algorithm))},
            {"steps", steps_of(recipe_.algorithm)},
            {"adapted", adapted_json(learner_.adapted_set(), recipe_.model)},
            {"skipped", learner_.skipped()},
            {"bytes", plan.bytes},
            {"resident_bytes", plan.resident_bytes},
            {"seconds", seconds},
            {"device", learner_.device_name()},
            {"implementation", to_string(plan.implementation)},
            {"layers", json_of(plan.layers)},
            {"precision", to_string(recipe_.options.precision, recipe_.options.device)},
            {"best", best}};
  }

  void finish(std::int64_t first, Progress& progress) {
    const bool stopped = learner_.updates() < recipe_.run.updates;
    const double seconds = progress.seconds();
    if (json_) return print_json(result(stopped, seconds));
    progress.note(stopped ? fmt::format("stopped at update {} and saved; go on with: cumeta train --resume {}",
                                        learner_.updates(), folder_.path())
                          : fmt::format("{} updates in {}, {} of arena; {}", learner_.updates() - first,
                                        time_text(seconds), bytes_text(latest_.bytes), folder_.last()));
  }

  Recipe recipe_;
  RunFolder folder_;
  std::optional<RunLock> lock_;
  bool json_;
  std::string recipe_text_;
  Episodes episodes_;
  Learner learner_;
  std::optional<Validator> validator_;
  Update latest_;
  std::optional<double> best_;
};

void run(const TrainArguments& arguments) {
  Start start = start_of(arguments);
  Recipe recipe = parse_recipe(start.table);
  Training training(std::move(recipe), start.folder, std::move(start.lock), start.resumed, arguments.json);
  if (!arguments.init.empty()) training.init_from(arguments.init);
  training.run();
}

}  // namespace

void add_train(CLI::App& program) {
  CLI::App* command = program.add_subcommand("train", "Meta-train by a recipe; logs, validation, checkpoints");
  command->footer(
      "RUN gets recipe.toml, log.csv, log.jsonl, last.safetensors and best.safetensors (best on the validation "
      "tasks).\n"
      "Ctrl-C and SIGTERM save and end with status 0 (a validation is finished first; a second one ends at once).\n"
      "A run that was stopped or killed goes on with --resume RUN and\n"
      "ends in the same files as one that never stopped.\n"
      "Example:\n  cumeta train recipes/omniglot_5w1s_maml.toml --data omniglot --out runs/o51 --set "
      "run.updates=20000");
  auto arguments = std::make_shared<TrainArguments>();
  command->add_option("recipe", arguments->recipe, "Recipe; without one the built-in sinusoid_maml");
  command->add_option("--out", arguments->out, "Folder of the run; default runs/RECIPE")->type_name("RUN");
  command->add_option("--resume", arguments->resume, "Go on with the run in this folder")->type_name("RUN");
  command->add_option("--init", arguments->init, "Start from these weights (safetensors)")->type_name("FILE");
  add_recipe_options(*command, arguments->options);
  add_json_option(*command, arguments->json);
  command->callback([arguments] { run(*arguments); });
}

}  // namespace cumeta::app
