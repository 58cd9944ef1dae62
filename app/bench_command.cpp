// SPDX-License-Identifier: Apache-2.0
// cumeta bench: a recipe's algorithm beside MAML, FOMAML, ANIL and Reptile on its model and tasks, in interleaved
// rounds: median and spread, bytes measured and planned, and the ratio second/first order against the law.
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>

#include "app/command.h"
#include "app/host_tasks.h"
#include "app/statistics.h"
#include "cumeta/error.h"

namespace cumeta::app {
namespace {

struct BenchArguments {
  std::string recipe;
  int rounds = 7;
  RecipeOptions options;
  bool json = false;
};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// VmRSS or VmHWM of this process, in bytes; 0 when the system does not say.
std::int64_t resident(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind(field + ":", 0) == 0) return std::stoll(line.substr(field.size() + 1)) * 1024;
  return 0;
}

/// Memory in use now: of a GPU what nobody has free any more, else this process's resident memory at its highest.
std::int64_t bytes_in_use(const Options& options, const std::string& field) {
  return options.device == Device::cuda ? -cuda_machine(options.ordinal).memory : resident(field);
}

/// What making a learner and two updates take of the memory of their device, measured in a process of its own: a CUDA
/// device's context is there before. Other programs on the same GPU disturb it.
std::int64_t measured_bytes(const Recipe& recipe, const Algorithm& algorithm, const HostTasks& tasks) {
  int ends[2];
  if (pipe(ends) != 0) throw Error("bench: no pipe to be had");
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) throw Error("bench: no process to be had for measuring memory");
  if (child == 0) {
    close(ends[0]);
    std::int64_t bytes = -1;
    try {
      const std::int64_t before = bytes_in_use(recipe.options, "VmRSS");
      Learner learner(recipe.model, algorithm, recipe.options);
      learner.meta_update(tasks.batch());
      learner.meta_update(tasks.batch());
      bytes = bytes_in_use(recipe.options, "VmHWM") - before;
    } catch (const std::exception&) {  // the parent meets the same error where it can report it
    }
    const bool sent = write(ends[1], &bytes, sizeof bytes) == sizeof bytes;
    _exit(sent ? 0 : 1);
  }
  close(ends[1]);
  std::int64_t bytes = -1;
  const bool received = read(ends[0], &bytes, sizeof bytes) == sizeof bytes;
  close(ends[0]);
  waitpid(child, nullptr, 0);
  return received ? bytes : -1;
}

struct Contender {
  Algorithm algorithm;
  std::int64_t bytes = 0;
  Plan plan;
  std::unique_ptr<Learner> learner;
  int repeats = 1;
  std::vector<double> seconds;
  double median_seconds() const { return median(seconds); }
  double spread() const {  // half of what the middle half of the rounds spans, over the median
    std::vector<double> sorted = seconds;
    std::sort(sorted.begin(), sorted.end());
    return (sorted[sorted.size() * 3 / 4] - sorted[sorted.size() / 4]) / 2 / median_seconds();
  }
};

/// The recipe's own algorithm, in the row of its kind, and the others with its steps and rate. FOMAML is the recipe's
/// MAML in first order, so that their ratio is the price of second order.
std::vector<Algorithm> algorithms(const Algorithm& own) {
  const int steps = std::max(1, steps_of(own));
  const double rate = std::visit([](const auto& algorithm) { return algorithm.rate; }, own);
  const auto kind = [&](auto other) { return std::holds_alternative<decltype(other)>(own) ? own : Algorithm{other}; };
  Maml maml = std::get<Maml>(kind(Maml{.steps = steps, .rate = rate})), fomaml = maml;
  maml.steps = fomaml.steps = steps;
  maml.order = Order::second, fomaml.order = Order::first;
  std::vector<Algorithm> all{maml, fomaml, kind(Anil{.steps = steps, .rate = rate}),
                             kind(Reptile{.steps = steps, .rate = rate})};
  if (std::holds_alternative<MetaSgd>(own)) all.push_back(own);
  return all;
}

/// Updates as a training makes them: on CUDA the device draws its tasks and results are read back once; on other
/// devices the tasks are those at hand.
struct Updates {
  const Episodes& episodes;
  const TaskBatch& batch;
  bool cuda;

  double seconds(Learner& learner, int count) const {
    const double begin = now();
    if (cuda)
      learner.train(episodes, batch.tasks, count, {}, count);
    else
      for (int i = 0; i < count; ++i) learner.meta_update(batch);
    return (now() - begin) / count;
  }
};

Source with_query(Source source) {
  std::visit(
      [](auto& kind) {
        if constexpr (requires { kind.query; })
          if (kind.query == 0) kind.query = kind.shots;
      },
      source);
  return source;
}

void run(const BenchArguments& arguments) {
  RecipeTable table = arguments.recipe.empty() ? default_recipe() : read_recipe(arguments.recipe);
  apply(table, arguments.options);
  Recipe recipe = parse_recipe(table);
  // The optimizer's work and memory without its effect: every round sees the same numbers.
  std::visit([](auto& optimizer) { optimizer.rate = 0; }, recipe.options.optimizer);
  recipe.options.schedule = {};
  const Episodes episodes(with_query(recipe.data()), Subset::train, recipe.options.seed);
  const HostTasks tasks = draw_tasks(episodes, 0, 0, recipe.run.tasks);
  const TaskBatch batch = tasks.batch();
  const bool cuda = recipe.options.device == Device::cuda;
  const Updates updates{episodes, batch, cuda};
  const int threads = cpu_machine(recipe.options.threads).cores;

  std::vector<Contender> all;
  for (const Algorithm& algorithm : algorithms(recipe.algorithm)) {
    Contender& contender = all.emplace_back();
    contender.algorithm = algorithm;
    contender.bytes = measured_bytes(recipe, algorithm, tasks);
  }
  const double cold_peak = cuda ? 0 : measured_fma_peak_gflops(threads, 0.2);
  const std::string precision = to_string(recipe.options.precision, recipe.options.device);
  std::string device;
  for (Contender& contender : all) {
    contender.learner = std::make_unique<Learner>(recipe.model, contender.algorithm, recipe.options);
    contender.plan = contender.learner->plan_for({tasks.tasks, tasks.support, tasks.query});
    device = contender.learner->device_name();
    updates.seconds(*contender.learner, 1);
    contender.repeats =
        std::clamp(static_cast<int>(0.05 / std::max(updates.seconds(*contender.learner, 2), 1e-7)), 1, 10000);
  }
  for (int round = 0; round < arguments.rounds; ++round)
    for (Contender& contender : all)
      contender.seconds.push_back(updates.seconds(*contender.learner, contender.repeats));
  const double hot_peak = cuda ? 0 : measured_fma_peak_gflops(threads, 0.2);

  const double ratio = all[0].median_seconds() / all[1].median_seconds();
  const double law = all[0].plan.first_order_flops > 0 ? all[0].plan.flops / all[0].plan.first_order_flops : 0;
  nlohmann::json results = nlohmann::json::array();
  for (const Contender& c : all) {
    const double gflops = c.plan.flops / c.median_seconds() / 1e9;
    results.push_back({{"algorithm", name_of(c.algorithm)},
                       {"order", to_string(order_of(c.algorithm))},
                       {"steps", steps_of(c.algorithm)},
                       {"adapted", adapted_json(c.plan.adapted_set, recipe.model)},
                       {"tasks", tasks.tasks},
                       {"seconds", c.median_seconds()},
                       {"spread", c.spread()},
                       {"gflops", gflops},
                       {"fraction_of_peak", cuda ? nlohmann::json() : nlohmann::json(gflops / cold_peak)},
                       {"flops", c.plan.flops},
                       {"launches", c.plan.launches},
                       {"layers", json_of(c.plan.layers)},
                       {"bytes", c.bytes < 0 ? nlohmann::json() : nlohmann::json(c.bytes)},
                       {"planned_bytes", c.plan.bytes}});
  }
  if (arguments.json)
    return print_json({{"device", device},
                       {"implementation", to_string(recipe.options.implementation)},
                       {"precision", precision},
                       {"simd", simd_target()},
                       {"threads", threads},
                       {"support", tasks.support},
                       {"query", tasks.query},
                       {"rounds", arguments.rounds},
                       {"peak_gflops", cuda ? nlohmann::json() : nlohmann::json(cold_peak)},
                       {"peak_gflops_after", cuda ? nlohmann::json() : nlohmann::json(hot_peak)},
                       {"results", results},
                       {"second_over_first", {{"measured", ratio}, {"law", law}}}});
  fmt::print("{}, {}: {} tasks of {} + {}, median of {} interleaved rounds", device, precision, tasks.tasks,
             tasks.support, tasks.query, arguments.rounds);
  if (!cuda) fmt::print("; FMA peak {:.1f} GFLOP/s before, {:.1f} after", cold_peak, hot_peak);
  fmt::print("\n{:<10}{:<8}{:>6}{:>14}{:>9}{:>10}{:>8}{:>10}{:>13}{:>13}  {}\n", "algorithm", "order", "steps",
             "per update", "spread", "GFLOP/s", "peak", "launches", "measured", "planned", "adapts");
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Contender& c = all[i];
    fmt::print("{:<10}{:<8}{:>6}{:>11.3f} ms{:>7.1f} %{:>10.1f}{:>8}{:>10}{:>13}{:>13}  {}\n", name_of(c.algorithm),
               to_string(order_of(c.algorithm)), steps_of(c.algorithm), 1e3 * c.median_seconds(), 100 * c.spread(),
               c.plan.flops / c.median_seconds() / 1e9,
               cuda ? "-" : fmt::format("{:.0f} %", 100 * c.plan.flops / c.median_seconds() / 1e9 / cold_peak),
               cuda ? fmt::format("{}", c.plan.launches) : "-", c.bytes < 0 ? "-" : bytes_text(c.bytes),
               bytes_text(c.plan.bytes), adapted_text(c.plan.adapted_set, recipe.model));
  }
  fmt::print("second / first order: {:.2f} measured, {:.2f} by the law\n", ratio, law);
}

}  // namespace

void add_bench(CLI::App& program) {
  CLI::App* command = program.add_subcommand("bench", "Time and memory of MAML, FOMAML, ANIL, Reptile on a recipe");
  command->footer(
      "The row of the recipe's own algorithm is that algorithm with all its settings (Meta-SGD: a row more); the\n"
      "others take its steps and rate. On CUDA the device draws the tasks, as in a training. \"measured\" is what a\n"
      "learner and two updates take of the device's memory.\n"
      "Example:\n  cumeta bench recipes/omniglot_5w1s_maml.toml --data omniglot --rounds 9 --json");
  auto arguments = std::make_shared<BenchArguments>();
  command->add_option("recipe", arguments->recipe, "Recipe; without one the built-in sinusoid_maml");
  command->add_option("--rounds", arguments->rounds, "Interleaved rounds")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  add_recipe_options(*command, arguments->options);
  add_json_option(*command, arguments->json);
  command->callback([arguments] { run(*arguments); });
}

}  // namespace cumeta::app
