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

/// What decides a layer's time, as text.
std::string shape_key(const std::vector<PlacedStage>& stages, const Use& use, bool input_gradient) {
  std::string key =
      fmt::format("{} {} {} {}", input_gradient, use.second, use.sizes.examples, use.sizes.statistics_rows);
  for (const PlacedStage& s : stages) {
    key += fmt::format(" {}:{}x{}x{}:{}x{}x{}:{}", s.stage.index(), s.input.height, s.input.width, s.input.channels,
                       s.output.height, s.output.width, s.output.channels, s.size);
    if (const auto* v = std::get_if<Vendor<Conv2d>>(&s.stage))
      key += fmt::format(":{}:{}:{}", v->layer.kernel, v->layer.stride, v->layer.padding);
  }
  return key;
}

}  // namespace

VendorLayers measure_fastest(Backend& backend, const Problem& own, const Problem& vendor, int tasks,
                             std::int64_t room) {
  VendorLayers chosen(own.model.layers.size(), false);
  std::map<std::string, bool> known;
  bool below_has_parameters = false;
  for (std::size_t i = 0; i < own.layout.stages.size(); ++i) {
    const PlacedStage& mine = own.layout.stages[i];
    std::vector<PlacedStage> theirs;
    std::optional<int> layer;
    for (const PlacedStage& stage : vendor.layout.stages) {
      if (stage.first_layer < mine.first_layer || stage.first_layer > mine.last_layer) continue;
      theirs.push_back(stage);
      if (std::holds_alternative<Vendor<Linear>>(stage.stage) || std::holds_alternative<Vendor<Conv2d>>(stage.stage))
        layer = stage.first_layer;
    }
    const bool input_gradient = below_has_parameters;
    below_has_parameters |= mine.size > 0;
    if (!layer) continue;
    const Use use = use_of(own, static_cast<int>(i));
    const auto [entry, fresh] = known.try_emplace(shape_key(theirs, use, input_gradient), false);
    if (fresh) {
      const auto bytes = [&](int timed) {
        return Chain::bytes(backend, {mine}, use.sizes, timed, input_gradient, use.second) +
               Chain::bytes(backend, theirs, use.sizes, timed, input_gradient, use.second);
      };
      int timed = tasks;
      while (room > 0 && bytes(timed) > room) {
        if (timed == 1)
          throw OutOfMemory(
              fmt::format("implementation fastest: to time layer {} needs {} bytes, {} are left of the limit; choose "
                          "own or vendor, or raise memory_limit",
                          *layer, bytes(1), room));
        timed = (timed + 1) / 2;
      }
      Chain first(backend, {mine}, use.sizes, timed, input_gradient, use.second);
      Chain second(backend, theirs, use.sizes, timed, input_gradient, use.second);
      std::vector<double> of_first, of_second;
      for (int round = 0; round < rounds; ++round) {
        of_first.push_back(first.milliseconds());
        of_second.push_back(second.milliseconds());
      }
      entry->second = median(of_second) < median(of_first);
    }
    chosen[static_cast<std::size_t>(*layer)] = entry->second;
  }
  return chosen;
}

std::string text_of(const VendorLayers& layers) {
  std::string text;
  for (const bool vendor : layers) text += std::string(text.empty() ? "" : " ") + (vendor ? "vendor" : "own");
  return text;
}

VendorLayers vendor_layers_from(const std::string& text, const Model& model) {
  const VendorLayers possible = all_vendor_layers(model);
  VendorLayers layers;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (word != "own" && word != "vendor") return {};
    if (layers.size() >= possible.size() || (word == "vendor" && !possible[layers.size()])) return {};
    layers.push_back(word == "vendor");
  }
  return layers.size() == possible.size() ? layers : VendorLayers{};
}

}  // namespace cumeta
