// SPDX-License-Identifier: Apache-2.0
// The sections run, device, plan, algorithm, optimizer and evaluate. Data and model have files of their own.
#include "app/recipe.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "app/nearest.h"
#include "cumeta/error.h"

namespace cumeta::app {
namespace {

constexpr double large = 1e9;
constexpr std::int64_t many = 1'000'000'000'000;

Order parse_order(Section& section, Order fallback) {
  return section.choice<Order>("order", to_string(fallback), {{"second", Order::second}, {"first", Order::first}});
}
int parse_steps(Section& section, int fallback, int low) { return section.integer("steps", fallback, low, 10000); }
double parse_rate(Section& section, double fallback) { return section.number("rate", fallback, 0, large); }

/// A method that is first order by its nature may say so, and nothing else.
void require_first_order(Section& section, const std::string& kind, const char* instead) {
  if (section.has("order") && parse_order(section, Order::first) == Order::second)
    section.refuse("order", fmt::format("does not go with kind = \"{}\", which is first order; {}", kind, instead));
  parse_order(section, Order::first);
}

/// Of either order: what is left of its keys.
Maml maml_of_order(Section& section, Order order) {
  Maml maml;
  maml.order = order;
  maml.steps = parse_steps(section, maml.steps, 0);
  maml.rate = parse_rate(section, maml.rate);
  maml.rate_per_layer = section.flag("rate_per_layer", false);
  maml.rate_per_step = section.flag("rate_per_step", false);
  maml.rate_learned = section.flag("rate_learned", false);
  maml.rates = section.numbers("rates", large);
  return maml;
}
Algorithm parse_maml(Section& section) { return maml_of_order(section, parse_order(section, Order::second)); }
Algorithm parse_fomaml(Section& section) {
  require_first_order(section, "fomaml", "write kind = \"maml\" for the exact order");
  return maml_of_order(section, Order::first);
}

Algorithm parse_anil(Section& section) {
  Anil anil;
  anil.order = parse_order(section, Order::second);
  anil.steps = parse_steps(section, anil.steps, 0);
  anil.rate = parse_rate(section, anil.rate);
  anil.first_adapted_layer = section.integer("first_adapted_layer", -1, -1, 10000);
  return anil;
}

Algorithm parse_meta_sgd(Section& section) {
  MetaSgd meta_sgd;
  meta_sgd.order = parse_order(section, Order::second);
  meta_sgd.steps = parse_steps(section, meta_sgd.steps, 0);
  meta_sgd.rate = parse_rate(section, meta_sgd.rate);
  return meta_sgd;
}

Algorithm parse_reptile(Section& section) {
  require_first_order(section, "reptile", "leave the key out");
  Reptile reptile;
  reptile.steps = parse_steps(section, reptile.steps, 1);
  reptile.rate = parse_rate(section, reptile.rate);
  reptile.inner =
      section.choice<Reptile::Inner>("inner", "sgd", {{"sgd", Reptile::Inner::sgd}, {"adam", Reptile::Inner::adam}});
  if (reptile.inner == Reptile::Inner::sgd)
    section.only_with({"beta2", "eps", "inner_state"}, "algorithm.inner = \"adam\"");
  reptile.beta2 = section.number("beta2", reptile.beta2);
  reptile.eps = section.number("eps", reptile.eps);
  reptile.inner_state = section.choice<Reptile::InnerState>(
      "inner_state", "carried", {{"carried", Reptile::InnerState::carried}, {"fresh", Reptile::InnerState::fresh}});
  reptile.batch = section.integer("batch", reptile.batch, 0);
  return reptile;
}

void parse_run(Section section, RunSettings& run, Options& options) {
  options.seed = static_cast<std::uint64_t>(section.whole("seed", 1, 0, std::numeric_limits<std::int64_t>::max()));
  run.updates = section.whole("updates", run.updates, 0, many);
  run.tasks = section.integer("tasks", run.tasks, 1, 1 << 20);
  run.report_every = section.whole("report_every", run.report_every, 1, many);
  run.checkpoint_every = section.whole("checkpoint_every", run.checkpoint_every, 1, many);
  run.validate_every = section.whole("validate_every", run.validate_every, 0, many);
  run.validate_tasks = section.integer("validate_tasks", run.validate_tasks, 1, 1 << 20);
  options.threads = section.integer("threads", 0, 0, 4096);
  options.pin = section.flag("pin", true);
  options.memory_limit = section.bytes("memory_limit", 0);
  options.on_nonfinite =
      section.choice<OnNonFinite>("on_nonfinite", "stop", {{"stop", OnNonFinite::stop}, {"skip", OnNonFinite::skip}});
  section.finish();
}

void parse_device(Section section, Options& options) {
  options.device = section.choice<Device>(
      "kind", "cpu", {{"cpu", Device::cpu}, {"cuda", Device::cuda}, {"reference", Device::reference}});
  options.ordinal = section.integer("ordinal", 0, 0, 1024);
  if (options.ordinal != 0 && options.device != Device::cuda)
    section.refuse("ordinal", fmt::format("is the number of a CUDA device, but device.kind is {}; set device.ordinal=0 "
                                          "or device.kind=cuda",
                                          to_string(options.device)));
  options.precision =
      section.choice<Precision>("precision", "float32", {{"float32", Precision::float32}, {"tf32", Precision::tf32}});
  section.finish();
}

void parse_plan(Section section, Options& options) {
  options.chunk = section.integer("chunk", 0, 0, 1 << 20);
  options.activations = section.choice<Activations>(
      "activations", "automatic",
      {{"automatic", Activations::automatic}, {"store", Activations::store}, {"recompute", Activations::recompute}});
  options.implementation = section.choice<Implementation>("implementation", "own",
                                                          {{"own", Implementation::own},
                                                           {"unfused", Implementation::unfused},
                                                           {"vendor", Implementation::vendor},
                                                           {"fastest", Implementation::fastest}});
  section.finish();
}

void parse_optimizer(Section section, std::int64_t updates, Options& options) {
  if (section.choice<bool>("kind", "adam", {{"adam", true}, {"sgd", false}})) {
    Adam adam;
    adam.rate = parse_rate(section, adam.rate);
    adam.beta1 = section.number("beta1", adam.beta1, 0, 0.9999999);
    adam.beta2 = section.number("beta2", adam.beta2, 0, 0.9999999);
    adam.eps = section.number("eps", adam.eps);
    options.optimizer = adam;
  } else {
    Sgd sgd;
    sgd.rate = parse_rate(section, sgd.rate);
    sgd.momentum = section.number("momentum", sgd.momentum, 0, 0.9999999);
    options.optimizer = sgd;
  }
  options.schedule.kind = section.choice<Schedule::Kind>(
      "schedule", "constant",
      {{"constant", Schedule::Kind::constant}, {"linear", Schedule::Kind::linear}, {"cosine", Schedule::Kind::cosine}});
  if (options.schedule.kind == Schedule::Kind::constant)
    section.only_with({"final_rate", "schedule_updates"}, "optimizer.schedule linear or cosine");
  options.schedule.final_rate = section.number("final_rate", 0, 0, large);
  options.schedule.updates = section.whole("schedule_updates", updates, 0, many);
  options.clip.value = section.number("clip_value", 0, 0, large);
  options.clip.norm = section.number("clip_norm", 0, 0, large);
  section.finish();
}

EvaluateSettings parse_evaluate(Section section, const Algorithm& algorithm, const std::optional<Source>& source) {
  EvaluateSettings settings;
  if (!std::holds_alternative<Reptile>(algorithm)) section.only_with({"batch"}, "algorithm.kind = \"reptile\"");
  if (source && std::holds_alternative<TaskFile>(*source))
    section.only_with({"shots", "query"}, "data that tasks are drawn from (the tasks of a file have their sizes)");
  settings.steps = section.integer("steps", settings.steps, -1, 10000);
  settings.tasks = section.integer("tasks", settings.tasks, 1, 1 << 24);
  settings.seed = static_cast<std::uint64_t>(section.whole("seed", 1, 0, std::numeric_limits<std::int64_t>::max()));
  if (section.has("shots")) settings.shots = section.integer("shots", 1, 1, 1 << 20);
  if (section.has("query")) settings.query = section.integer("query", 1, 1, 1 << 20);
  if (section.has("batch")) settings.batch = section.integer("batch", 0, 0, 1 << 20);
  for (const char* key : {"shots", "query", "batch"}) section.integer(key, 1, 0);  // known keys, given or not
  section.finish();
  return settings;
}

struct KnownKey {
  std::string key;                 ///< "optimizer.momentum"
  std::vector<std::string> kinds;  ///< optimizer.kind = "sgd"; none where the section has no kinds
};

/// Every key of every kind, as the parsers ask for them.
std::vector<KnownKey> every_key() {
  std::vector<KnownKey> all;
  const auto ask = [](const char* name, const toml::table& table, const auto& parse) {
    Asked asked;
    try {
      parse(Section(&table, name, "", &asked));
    } catch (const InvalidArgument&) {}  // what it asked for until then
    return asked;
  };
  const auto note = [&](const char* name, const auto& parse) {
    const auto keep = [&](const Asked& asked, const std::string& kind) {
      for (const std::string& key : asked.keys) {
        auto known = std::find_if(all.begin(), all.end(), [&](const KnownKey& k) { return k.key == key; });
        if (known == all.end()) known = all.insert(all.end(), {key, {}});
        if (!kind.empty()) known->kinds.push_back(fmt::format("{}.kind = \"{}\"", name, kind));
      }
    };
    const Asked without = ask(name, toml::table{}, parse), refused = ask(name, toml::table{{"kind", "?"}}, parse);
    if (refused.kinds.empty()) keep(without, "");
    for (const std::string& kind : refused.kinds) keep(ask(name, toml::table{{"kind", kind}}, parse), kind);
  };
  Options options;
  RunSettings settings;
  const Source pictures = Omniglot{};
  note("run", [&](Section s) { parse_run(std::move(s), settings, options); });
  note("device", [&](Section s) { parse_device(std::move(s), options); });
  note("plan", [&](Section s) { parse_plan(std::move(s), options); });
  note("algorithm", [](Section s) { parse_algorithm(std::move(s)); });
  note("optimizer", [&](Section s) { parse_optimizer(std::move(s), 1, options); });
  note("data", [](Section s) { parse_source(std::move(s)); });
  note("model", [&](Section s) { parse_model(std::move(s), &pictures); });
  note("evaluate", [&](Section s) { parse_evaluate(std::move(s), Reptile{}, pictures); });
  return all;
}

/// "seed" of "run.seed".
std::string last_word(const std::string& key) { return key.substr(key.rfind('.') + 1); }

/// Where a key goes with another kind of its section.
std::string remedy_for(const std::string& section, const RecipeTable& recipe) {
  const std::string kind = section + ".kind";
  if (!recipe.table.at_path(kind)) return "set " + kind;
  const bool kind_is_new = std::find(recipe.set_keys.begin(), recipe.set_keys.end(), kind) != recipe.set_keys.end();
  return kind_is_new ? fmt::format("replace the whole section: --set '{}={{kind=..., ...}}'", section)
                     : "leave the key out";
}

/// What is to be said of a key that its section did not ask for.
std::string hint_for(const UnknownKey& unknown, const RecipeTable& recipe) {
  if (unknown.section.find('[') != std::string::npos) return unknown.what();  // a layer's: its parser knows its keys
  const std::vector<KnownKey> all = every_key();
  std::vector<std::string> of_section;
  for (const auto& [key, kinds] : all) {
    if (key == unknown.key && !kinds.empty())
      return fmt::format("{}: {} goes with {} only; {}", unknown.file, unknown.key, fmt::join(kinds, " or "),
                         remedy_for(unknown.section, recipe));
    if (key.starts_with(unknown.section + ".")) of_section.push_back(key);
  }
  for (const auto& [key, kinds] : all)
    if (last_word(key) == last_word(unknown.key))
      return fmt::format("{}: unknown key {}; did you mean {}?", unknown.file, unknown.key, key);
  return fmt::format("{}: unknown key {}; did you mean {}?", unknown.file, unknown.key,
                     nearest(unknown.key, of_section));
}

void check_sections(const RecipeTable& recipe) {
  const std::vector<std::string> known = {"run",  "device",    "algorithm", "plan",
                                          "data", "optimizer", "model",     "evaluate"};
  for (const auto& [key, node] : recipe.table) {
    const std::string word(key.str());
    if (std::find(known.begin(), known.end(), word) == known.end()) {
      // A section's name, or a key whose section is missing: the nearest of both.
      std::map<std::string, std::string> full;
      for (const std::string& section : known) full[section] = section;
      for (const KnownKey& other : every_key()) full.try_emplace(last_word(other.key), other.key);
      std::vector<std::string> words;
      for (const auto& [short_word, long_word] : full) words.push_back(short_word);
      throw InvalidArgument(
          fmt::format("{}: unknown key {}; did you mean {}?", recipe.file, word, full.at(nearest(word, words))));
    }
    if (!node.is_table())
      throw InvalidArgument(fmt::format("{}: {} is a section; write [{}] and its keys below", recipe.file, word, word));
  }
}

}  // namespace

std::vector<std::string> recipe_keys() {
  std::vector<std::string> keys;
  for (const KnownKey& known : every_key()) keys.push_back(known.key);
  return keys;
}

Algorithm parse_algorithm(Section section) {
  using Parser = Algorithm (*)(Section&);
  const Algorithm algorithm = section.choice<Parser>("kind", "maml",
                                                     {{"maml", parse_maml},
                                                      {"fomaml", parse_fomaml},
                                                      {"anil", parse_anil},
                                                      {"meta_sgd", parse_meta_sgd},
                                                      {"reptile", parse_reptile}})(section);
  section.finish();
  return algorithm;
}

Recipe parse_recipe(const RecipeTable& table) try {
  check_sections(table);
  const auto section = [&](const char* name) {
    const toml::node* node = table.table.get(name);
    return Section(node == nullptr ? nullptr : node->as_table(), name, table.file);
  };
  Recipe recipe;
  recipe.source_table = table;
  parse_run(section("run"), recipe.run, recipe.options);
  parse_device(section("device"), recipe.options);
  parse_plan(section("plan"), recipe.options);
  recipe.algorithm = parse_algorithm(section("algorithm"));
  parse_optimizer(section("optimizer"), recipe.run.updates, recipe.options);
  recipe.source = parse_source(section("data"));
  recipe.evaluate = parse_evaluate(section("evaluate"), recipe.algorithm, recipe.source);
  recipe.model = parse_model(section("model"), recipe.source ? &*recipe.source : nullptr);
  return recipe;
} catch (const UnknownKey& unknown) { throw InvalidArgument(hint_for(unknown, table)); }

bool Recipe::has_batch_norm() const {
  return std::any_of(model.layers.begin(), model.layers.end(),
                     [](const Layer& layer) { return std::holds_alternative<BatchNorm>(layer); });
}

const Source& Recipe::data() const {
  if (!source) throw InvalidArgument(fmt::format("{}: has no [data] section; set data.kind", source_table.file));
  std::visit(
      [&](const auto& kind) {
        if constexpr (requires { kind.root; })
          if (kind.root.empty())
            throw InvalidArgument(
                fmt::format("{}: data.root is not set; name the folder with --data FOLDER", source_table.file));
      },
      *source);
  return *source;
}

TaskSizes Recipe::sizes() const {
  if (!source) throw InvalidArgument(fmt::format("{}: has no [data] section; set data.kind", source_table.file));
  return std::visit(
      [&](const auto& kind) -> TaskSizes {
        if constexpr (requires { kind.path; }) {
          const Episodes episodes(data(), Subset::train, options.seed);
          return {run.tasks, episodes.support(), episodes.query()};
        } else if constexpr (requires { kind.ways; }) {
          const std::int64_t rows = std::int64_t{kind.ways} * (std::int64_t{kind.shots} + kind.query);
          if (rows > std::numeric_limits<int>::max())
            throw InvalidArgument(fmt::format("{}: {} ways of {} shots and {} query images are too many for one task",
                                              source_table.file, kind.ways, kind.shots, kind.query));
          return {run.tasks, kind.ways * kind.shots, kind.ways * kind.query};
        } else {
          return {run.tasks, kind.shots, kind.query};
        }
      },
      *source);
}

Source evaluation_source(const Recipe& recipe) {
  Source source = recipe.data();
  const auto was_set = [&](const char* key) {
    const auto& keys = recipe.source_table.set_keys;
    return std::find(keys.begin(), keys.end(), key) != keys.end();
  };
  std::visit(
      [&](auto& kind) {
        if constexpr (requires { kind.shots; }) {
          // What the caller sets for this evaluation weighs more than what the recipe's [evaluate] says.
          if (recipe.evaluate.shots && (!was_set("data.shots") || was_set("evaluate.shots")))
            kind.shots = *recipe.evaluate.shots;
          if (recipe.evaluate.query && (!was_set("data.query") || was_set("evaluate.query")))
            kind.query = *recipe.evaluate.query;
        }
      },
      source);
  return source;
}

Algorithm evaluation_algorithm(const Recipe& recipe) {
  Algorithm algorithm = recipe.algorithm;
  if (auto* reptile = std::get_if<Reptile>(&algorithm))
    if (recipe.evaluate.batch) reptile->batch = *recipe.evaluate.batch;
  return algorithm;
}

}  // namespace cumeta::app
