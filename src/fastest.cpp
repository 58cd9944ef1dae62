// SPDX-License-Identifier: Apache-2.0
#include "src/fastest.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <sstream>

namespace cumeta {

namespace {

constexpr int rounds = 7;

/// Some neighbouring stages with arrays of their own, run as an engine would run them.
class Chain {
 public:
  Chain(Backend& backend, std::vector<PlacedStage> stages, const EngineSizes& sizes, int tasks, bool input_gradient,
        bool second)
      : Chain(backend, std::move(stages), sizes, tasks) {
    Arena dry(backend.number());
    take(dry, input_gradient, second);
    block_ = backend.allocate(static_cast<std::size_t>(dry.bytes()));
    Arena arena(backend.number(), block_.get());
    links_.clear();
    take(arena, input_gradient, second);
    for (Link& link : links_) link.passes = backend.lane(0).bind(link.stage, link.geometry, scratch_);
    for (const Link& link : links_)
      for (const Array& a : {link.v.w, link.v.x, link.d.y, link.R.w, link.R.x, link.Rd.y})
        if (a) backend.lane(0).fill(a, 0.5);
    recording_ = backend.record([this, second] { run(second); });
    backend.timed_run(*recording_);
  }

  double milliseconds() { return backend_.timed_run(*recording_); }

  /// What such a chain takes.
  static std::int64_t bytes(Backend& backend, const std::vector<PlacedStage>& stages, const EngineSizes& sizes,
                            int tasks, bool input_gradient, bool second) {
    Chain counted(backend, stages, sizes, tasks);
    Arena dry(backend.number());
    counted.take(dry, input_gradient, second);
    return dry.bytes();
  }

 private:
  Chain(Backend& backend, std::vector<PlacedStage> stages, const EngineSizes& sizes, int tasks)
      : backend_(backend), stages_(std::move(stages)), sizes_(sizes), tasks_(tasks) {}

  struct Link {
    Stage stage;
    Geometry geometry;
    Values v, R;
    Gradients d, Rd;
    std::unique_ptr<LayerPasses> passes;
  };

  void take(Arena& arena, bool input_gradient, bool second) {
    const auto row = [&](std::int64_t size, bool wanted = true) {
      return wanted ? arena.take("measured", tasks_, size) : Array{};
    };
    std::int64_t scratch = 0;
    for (const PlacedStage& placed : stages_) {
      Link link{placed.stage, {placed.input, sizes_.examples, sizes_.statistics_rows}, {}, {}, {}, {}, nullptr};
      const bool first = links_.empty(), lower = !first || input_gradient;
      const std::int64_t x = std::int64_t{sizes_.examples} * placed.input.size(),
                         y = std::int64_t{sizes_.examples} * placed.output.size();
      const Link* below = first ? nullptr : &links_.back();
      link.v = {row(placed.size), below ? below->v.y : row(x), row(y), row(record(placed.stage, link.geometry))};
      link.d = {row(y), below ? below->d.y : row(x, lower), row(placed.size)};
      if (second) {
        link.R = {row(placed.size), below ? below->R.y : row(x, lower), row(y),
                  row(tangent_record(placed.stage, link.geometry))};
        link.Rd = {row(y), below ? below->Rd.y : row(x, lower), row(placed.size)};
      }
      scratch = std::max(scratch, cumeta::scratch(placed.stage, link.geometry, Device::cuda));
      links_.push_back(std::move(link));
    }
    scratch_ = row(scratch);
  }

  void run(bool second) const {
    for (const Link& link : links_) link.passes->forward(link.v);
    for (auto link = links_.rbegin(); link != links_.rend(); ++link) link->passes->backward(link->v, link->d);
    if (!second) return;
    for (const Link& link : links_) link.passes->tangent_forward(link.v, link.R);
    for (auto link = links_.rbegin(); link != links_.rend(); ++link)
      link->passes->tangent_backward(link->v, link->d, link->R, link->Rd);
  }

  Backend& backend_;
  std::vector<PlacedStage> stages_;
  EngineSizes sizes_;
  int tasks_;
  std::shared_ptr<std::byte> block_;
  std::vector<Link> links_;
  Array scratch_;
  std::unique_ptr<Recording> recording_;
};

double median(std::vector<double> numbers) {
  std::sort(numbers.begin(), numbers.end());
  return numbers[numbers.size() / 2];
}

/// What a stage runs on: the head takes inner steps on the support rows; the body, if there is one, makes features once
/// and takes the query's gradient, never a Hessian product.
struct Use {
  EngineSizes sizes;
  bool second = false;
};
Use use_of(const Problem& p, int stage) {
  if (stage < p.head_stage) return {p.body_query, false};
  return {p.support, p.second_order()};
}

/// One way to run what own runs as one stage: the stages in its place, and whose they are.
struct Way {
  std::vector<PlacedStage> stages;
  Implementation implementation = Implementation::own;
};

/// Own's stage first, then the others that differ from it.
std::vector<Way> ways_of(const PlacedStage& mine, const std::vector<Problem>& others) {
  std::vector<Way> ways{{{mine}, Implementation::own}};
  for (const Problem& other : others) {
    Way way{{}, Implementation::unfused};
    for (const PlacedStage& stage : other.layout.stages) {
      if (stage.first_layer < mine.first_layer || stage.first_layer > mine.last_layer) continue;
      way.stages.push_back(stage);
      if (std::holds_alternative<Vendor<Linear>>(stage.stage) || std::holds_alternative<Vendor<Conv2d>>(stage.stage))
        way.implementation = Implementation::vendor;
    }
    const bool same = way.stages.size() == 1 && way.implementation == Implementation::unfused;
    if (!same) ways.push_back(std::move(way));
  }
  return ways;
}

/// The linear or conv2d among the layers of a stage.
std::optional<std::size_t> contraction_in(const Model& model, const PlacedStage& stage) {
  for (int layer = stage.first_layer; layer <= stage.last_layer; ++layer) {
    const Layer& l = model.layers[static_cast<std::size_t>(layer)];
    if (std::holds_alternative<Linear>(l) || std::holds_alternative<Conv2d>(l)) return static_cast<std::size_t>(layer);
  }
  return std::nullopt;
}

/// What decides a stage's time, as text.
std::string shape_key(const Model& model, const PlacedStage& stage, std::size_t contraction, const Use& use,
                      bool input_gradient) {
  std::string key =
      fmt::format("{} {} {} {} {}:{}x{}x{}:{}x{}x{}:{}", input_gradient, use.second, use.sizes.examples,
                  use.sizes.statistics_rows, stage.stage.index(), stage.input.height, stage.input.width,
                  stage.input.channels, stage.output.height, stage.output.width, stage.output.channels, stage.size);
  if (const auto* c = std::get_if<Conv2d>(&model.layers[contraction]))
    key += fmt::format(":{}:{}:{}:{}", c->kernel, c->stride, c->padding, c->filters);
  return key;
}

/// The bytes of a stage's ways, all of which are there at once.
std::int64_t bytes_of(Backend& backend, const std::vector<Way>& ways, const Use& use, int tasks, bool input_gradient) {
  std::int64_t bytes = 0;
  for (const Way& way : ways) bytes += Chain::bytes(backend, way.stages, use.sizes, tasks, input_gradient, use.second);
  return bytes;
}

Implementation fastest_of(Backend& backend, const std::vector<Way>& ways, const Use& use, int tasks,
                          bool input_gradient) {
  std::vector<std::unique_ptr<Chain>> chains;
  for (const Way& way : ways)
    chains.push_back(std::make_unique<Chain>(backend, way.stages, use.sizes, tasks, input_gradient, use.second));
  std::vector<std::vector<double>> times(ways.size());
  for (int round = 0; round < rounds; ++round)
    for (std::size_t i = 0; i < chains.size(); ++i) times[i].push_back(chains[i]->milliseconds());
  std::size_t best = 0;
  for (std::size_t i = 1; i < ways.size(); ++i)
    if (median(times[i]) < median(times[best])) best = i;
  return ways[best].implementation;
}

}  // namespace

LayerImplementations measure_fastest(Backend& backend, const Problem& own, const std::vector<Problem>& others,
                                     int tasks, std::int64_t room) {
  LayerImplementations chosen(own.model.layers.size(), Implementation::own);
  std::map<std::string, Implementation> known;
  bool below_has_parameters = false;
  for (std::size_t i = 0; i < own.layout.stages.size(); ++i) {
    const PlacedStage& mine = own.layout.stages[i];
    const bool input_gradient = below_has_parameters;
    below_has_parameters |= mine.size > 0;
    const std::optional<std::size_t> layer = contraction_in(own.model, mine);
    if (!layer) continue;
    const Use use = use_of(own, static_cast<int>(i));
    const auto [entry, fresh] =
        known.try_emplace(shape_key(own.model, mine, *layer, use, input_gradient), Implementation::own);
    if (fresh) {
      const std::vector<Way> ways = ways_of(mine, others);
      int timed = tasks;
      while (room > 0 && bytes_of(backend, ways, use, timed, input_gradient) > room) {
        if (timed == 1)
          throw OutOfMemory(
              fmt::format("implementation fastest: to time layer {} needs {} bytes, {} are left of the limit; choose "
                          "own, unfused or vendor, or raise memory_limit",
                          *layer, bytes_of(backend, ways, use, 1, input_gradient), room));
        timed = (timed + 1) / 2;
      }
      entry->second = fastest_of(backend, ways, use, timed, input_gradient);
    }
    chosen[*layer] = entry->second;
  }
  return chosen;
}

std::string text_of(const LayerImplementations& layers) {
  std::string text;
  for (const Implementation one : layers) {
    if (!text.empty()) text += ' ';
    text += to_string(one);
  }
  return text;
}

LayerImplementations implementations_from(const std::string& text, const Model& model) {
  const LayerImplementations possible = for_all_layers(model, Implementation::vendor);
  LayerImplementations layers;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    std::optional<Implementation> found;
    for (const Implementation one : {Implementation::own, Implementation::unfused, Implementation::vendor})
      if (word == to_string(one)) found = one;
    if (!found || layers.size() >= possible.size()) return {};
    if (*found != Implementation::own && possible[layers.size()] == Implementation::own) return {};
    layers.push_back(*found);
  }
  return layers.size() == possible.size() ? layers : LayerImplementations{};
}

}  // namespace cumeta
