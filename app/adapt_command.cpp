// SPDX-License-Identifier: Apache-2.0
// cumeta adapt: a trained run adapted to one support set of the caller's; predictions as CSV, time and bytes.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>

#include "app/command.h"
#include "app/labelled_examples.h"
#include "app/run_folder.h"
#include "cumeta/error.h"
#include "cumeta/tensor_file.h"

namespace cumeta::app {
namespace {

struct AdaptArguments {
  std::string run, checkpoint, support, query, output, predictions;
  int steps = -1;
  RecipeOptions options;
  bool json = false;
};

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

struct Predictions {
  std::vector<float> outputs;  ///< [count][width]
  int width = 0;
  int count() const { return static_cast<int>(outputs.size()) / width; }
  const float* row(int i) const { return outputs.data() + static_cast<std::ptrdiff_t>(i) * width; }
  int winner(int i) const { return static_cast<int>(std::max_element(row(i), row(i) + width) - row(i)); }
};

/// label and predicted class (names where there are any), or target and output; then the scores.
std::string as_csv(const Predictions& p, const LabelledExamples& query, const std::vector<std::string>& names,
                   bool classification) {
  const auto class_text = [&](int label) {
    if (label < 0) return std::string();
    if (static_cast<std::size_t>(label) >= names.size()) return std::to_string(label);
    std::string name = names[static_cast<std::size_t>(label)];
    if (name.find_first_of(",\"\n\r") == std::string::npos) return name;
    for (std::size_t at = 0; (at = name.find('"', at)) != std::string::npos; at += 2) name.insert(at, 1, '"');
    return '"' + name + '"';
  };
  std::string text = classification ? "row,label,predicted" : "row";
  for (int i = 0; i < p.width && !query.y.empty() && !classification; ++i) text += fmt::format(",target_{}", i);
  for (int i = 0; i < p.width; ++i) text += fmt::format(",{}_{}", classification ? "score" : "output", i);
  text += "\n";
  for (int row = 0; row < p.count(); ++row) {
    text += std::to_string(row);
    if (classification) {
      const int label = query.y.empty() ? -1 : static_cast<int>(query.y[static_cast<std::size_t>(row)]);
      text += fmt::format(",{},{}", class_text(label), class_text(p.winner(row)));
    } else if (!query.y.empty()) {
      for (int i = 0; i < p.width; ++i)
        text += fmt::format(",{}", query.y[static_cast<std::size_t>(row * p.width + i)]);
    }
    for (int i = 0; i < p.width; ++i) text += fmt::format(",{}", p.row(row)[i]);
    text += "\n";
  }
  return text;
}

/// Share of the labelled rows that are right, or the mean squared error; null when nothing is known.
nlohmann::json judged(const Predictions& p, const LabelledExamples& query, bool classification) {
  if (query.y.empty()) return nullptr;
  double sum = 0;
  int counted = 0;
  if (!classification) {
    for (std::size_t i = 0; i < query.y.size(); ++i) {
      const double difference = static_cast<double>(p.outputs[i]) - static_cast<double>(query.y[i]);
      sum += difference * difference, ++counted;
    }
  } else {
    for (int row = 0; row < p.count(); ++row) {
      const int label = static_cast<int>(query.y[static_cast<std::size_t>(row)]);
      if (label < 0) continue;
      sum += p.winner(row) == label ? 1 : 0, ++counted;
    }
  }
  if (counted == 0) return nullptr;
  return sum / counted;
}

void run(const AdaptArguments& arguments) {
  if (arguments.query.empty() && arguments.output.empty())
    throw UsageError("adapt: nothing to do; give --query for predictions, --output for adapted parameters, or both");
  TrainedRun trained = open_run(arguments.run, arguments.checkpoint);
  apply(trained.recipe, arguments.options);
  refuse_training_keys(trained.recipe);
  const Recipe recipe = parse_recipe(trained.recipe);
  const Algorithm algorithm = evaluation_algorithm(recipe);
  Learner learner(recipe.model, algorithm, recipe.options);
  learner.load_trained(trained.checkpoint);
  const LabelledExamples support = read_examples(arguments.support, "support", recipe, {});
  if (support.y.empty())
    throw FileError(fmt::format("{}: has no tensor y; support examples need targets", arguments.support));
  if (const auto* reptile = std::get_if<Reptile>(&algorithm);
      reptile && reptile->batch > 0 && support.count % reptile->batch != 0)
    throw InvalidArgument(
        fmt::format("{}: {} support examples are no whole number of mini-batches of {}; --set evaluate.batch=0 takes "
                    "all of them in every step",
                    arguments.support, support.count, reptile->batch));
  if (recipe.classification() && static_cast<int>(support.class_names.size()) > output_count(recipe.model))
    throw FileError(fmt::format("{}: {} class folders, but the model has {} outputs", arguments.support,
                                support.class_names.size(), output_count(recipe.model)));
  // Read before anything is written: a bad query leaves no file behind.
  std::optional<LabelledExamples> query;
  if (!arguments.query.empty()) query = read_examples(arguments.query, "query", recipe, support.class_names);
  const int steps = arguments.steps >= 0 ? arguments.steps : recipe.evaluate.steps;
  auto begin = std::chrono::steady_clock::now();
  AdaptedTask task = learner.adapt({support.count, support.x, support.y}, steps);
  const double adapt_seconds = seconds_since(begin);

  nlohmann::json result = {{"checkpoint", trained.checkpoint},
                           {"algorithm", name_of(recipe.algorithm)},
                           {"order", to_string(order_of(recipe.algorithm))},
                           {"precision", to_string(recipe.options.precision, recipe.options.device)},
                           {"steps", steps >= 0 ? steps : steps_of(recipe.algorithm)},
                           {"adapted", adapted_json(task.adapted_set(), recipe.model)},
                           {"device", learner.device_name()},
                           {"support", support.count},
                           {"support_loss", task.support_loss()},
                           {"seconds", adapt_seconds}};
  for (const double value : task.parameters())
    if (!std::isfinite(value))
      throw NonFinite(fmt::format("{}: adaptation diverged in {} steps; take fewer (--steps) or lower algorithm.rate",
                                  arguments.support, task.steps()));
  if (!arguments.output.empty()) {
    TensorFile file;
    file.metadata = {{"algorithm", name_of(recipe.algorithm)},
                     {"order", to_string(task.order())},
                     {"steps", std::to_string(task.steps())},
                     {"adapted_set", fmt::format("{}", fmt::join(task.adapted_set(), " "))}};
    put_parameters(file, recipe.model, "", task.parameters(), 0, FileTensor::Type::float32);
    write_tensors(arguments.output, file);
    result["output"] = arguments.output;
  }
  std::string csv;
  if (query) {
    begin = std::chrono::steady_clock::now();
    const Predictions predictions{task.predict(query->x), output_count(recipe.model)};
    result["predict_seconds"] = seconds_since(begin);
    result["query"] = query->count;
    result[recipe.classification() ? "accuracy" : "loss"] = judged(predictions, *query, recipe.classification());
    csv = as_csv(predictions, *query, support.class_names, recipe.classification());
    if (!arguments.predictions.empty()) write_text_file(arguments.predictions, csv);
    nlohmann::json rows = nlohmann::json::array();
    for (int i = 0; i < predictions.count(); ++i)
      rows.push_back(recipe.classification() ? nlohmann::json(predictions.winner(i))
                                             : nlohmann::json(std::vector<float>(
                                                   predictions.row(i), predictions.row(i) + predictions.width)));
    result["predictions"] = rows;
  }
  result["bytes"] = task.bytes();  // predictions take their own arena
  if (task.steps() == 0) result["support_loss"] = nullptr;
  if (arguments.json) return print_json(result);
  if (arguments.predictions.empty()) fmt::print("{}", csv);
  // Beside the CSV on stdout, so that a pipe gets the table alone.
  fmt::print(csv.empty() || !arguments.predictions.empty() ? stdout : stderr,
             "adapted to {} examples ({}): {:.3g} ms, {} of arena{}{}\n", support.count,
             method_text(name_of(recipe.algorithm), task.order(), task.steps(), task.adapted_set(), recipe.model),
             1e3 * adapt_seconds, bytes_text(task.bytes()),
             task.steps() > 0 ? fmt::format(", support loss {:.4g}", task.support_loss()) : "",
             result.contains("accuracy") && result["accuracy"].is_number()
                 ? fmt::format(", accuracy {:.4f}", result["accuracy"].get<double>())
                 : "");
}

}  // namespace

void add_adapt(CLI::App& program) {
  CLI::App* command = program.add_subcommand("adapt", "Adapt a trained run to your own support set and predict");
  command->footer(
      "X and Y are safetensors files with x [n, features] or [n, C, H, W] and y [n] (labels) or [n, outputs], or "
      "folders\n"
      "of class folders of PNGs. Predictions go to stdout as CSV, or to --predictions FILE.\n"
      "Example:\n  cumeta adapt runs/o51 --support my/support --query my/query --output adapted.safetensors");
  auto arguments = std::make_shared<AdaptArguments>();
  command->add_option("run", arguments->run, "Folder of a run, or a checkpoint")->required();
  command->add_option("--support", arguments->support, "What to adapt to")->required()->type_name("X");
  command->add_option("--query", arguments->query, "What to predict")->type_name("Y");
  command->add_option("--output", arguments->output, "Adapted parameters (safetensors)")->type_name("FILE");
  command->add_option("--predictions", arguments->predictions, "CSV file instead of stdout")->type_name("FILE");
  command->add_option("--steps", arguments->steps, "Inner steps; default evaluate.steps, or as trained")
      ->check(CLI::Range(0, 10000));
  command->add_option("--checkpoint", arguments->checkpoint, "best (default), last or a file")->type_name("WHICH");
  add_recipe_options(*command, arguments->options);
  add_json_option(*command, arguments->json);
  command->callback([arguments] { run(*arguments); });
}

}  // namespace cumeta::app
