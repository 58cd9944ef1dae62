// SPDX-License-Identifier: Apache-2.0
// The text of a golden file, field by field: what is not understood must not be passed over.
#include <fmt/format.h>

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <utility>

#include "tests/support/golden.h"

namespace cumeta::testing {
namespace {

/// An object whose fields are all to be read.
class Fields {
 public:
  Fields(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) refuse("is no object");
  }
  [[noreturn]] void refuse(const std::string& what) const {
    throw std::runtime_error(fmt::format("golden: {} {}", where_, what));
  }

  bool has(const char* name) const { return object_.contains(name); }
  const nlohmann::json& at(const char* name) {
    read_.insert(name);
    if (!has(name)) refuse(fmt::format("has no field {}", name));
    return object_.at(name);
  }
  template <class T>
  T get(const char* name) {
    const nlohmann::json& value = at(name);
    const bool fits = std::is_same_v<T, bool>          ? value.is_boolean()
                      : std::is_same_v<T, std::string> ? value.is_string()
                      : std::is_integral_v<T>          ? value.is_number_integer()
                      : std::is_floating_point_v<T>    ? value.is_number()
                                                       : value.is_array();
    if (!fits) refuse(fmt::format("has {} = {}, which is of another type", name, value.dump()));
    return value.get<T>();
  }
  /// A field of T's, left as it is where the object has none.
  template <class T>
  void optional(const char* name, T& to) {
    if (has(name)) to = get<T>(name);
  }
  template <class T>
  T word(const char* name, std::initializer_list<std::pair<const char*, T>> words) {
    const auto given = get<std::string>(name);
    for (const auto& [text, value] : words)
      if (given == text) return value;
    refuse(fmt::format("has {} = \"{}\", which the tests do not know", name, given));
  }
  template <class T>
  void optional_word(const char* name, T& to, std::initializer_list<std::pair<const char*, T>> words) {
    if (has(name)) to = word<T>(name, words);
  }
  void finish() const {
    for (const auto& field : object_.items())
      if (!read_.contains(field.key()))
        refuse(fmt::format("has the field {}, which the tests do not know", field.key()));
  }

 private:
  const nlohmann::json& object_;
  std::string where_;
  std::set<std::string> read_;
};

Layer layer_from(Fields& f) {
  const auto kind = f.get<std::string>("kind");
  if (kind == "linear") {
    Linear l{.outputs = f.get<int>("outputs")};
    f.optional("bias", l.bias), f.optional("adapted", l.adapted);
    return l;
  }
  if (kind == "conv2d") {
    Conv2d l{.filters = f.get<int>("filters"), .kernel = f.get<int>("kernel")};
    f.optional("stride", l.stride), f.optional("padding", l.padding);
    f.optional("bias", l.bias), f.optional("adapted", l.adapted);
    return l;
  }
  if (kind == "batch_norm") {
    BatchNorm l;
    f.optional("scale", l.scale), f.optional("shift", l.shift);
    f.optional_word("statistics", l.statistics,
                    {{"batch", Statistics::batch}, {"support", Statistics::support}, {"running", Statistics::running}});
    f.optional("eps", l.eps), f.optional("momentum", l.momentum), f.optional("adapted", l.adapted);
    return l;
  }
  if (kind == "leaky_relu") {
    LeakyRelu l;
    f.optional("slope", l.slope);
    return l;
  }
  if (kind == "max_pool2d") {
    MaxPool2d l{.kernel = f.get<int>("kernel"), .stride = 0};
    l.stride = l.kernel;
    f.optional("stride", l.stride);
    return l;
  }
  if (kind == "relu") return Relu{};
  if (kind == "tanh") return Tanh{};
  if (kind == "global_average_pool") return GlobalAveragePool{};
  if (kind == "flatten") return Flatten{};
  f.refuse(fmt::format("is of the kind {}, which the tests do not know", kind));
}

Order order_from(Fields& f, Order otherwise) {
  f.optional_word("order", otherwise, {{"first", Order::first}, {"second", Order::second}});
  return otherwise;
}

/// Files name ANIL's first adapted layer so or so.
int first_adapted(Fields& f) {
  if (f.has("adapted_from_layer") && f.has("first_adapted_layer"))
    f.refuse("has both adapted_from_layer and first_adapted_layer");
  int layer = -1;
  f.optional("adapted_from_layer", layer), f.optional("first_adapted_layer", layer);
  return layer;
}

Algorithm algorithm_from(Fields& f) {
  const auto kind = f.get<std::string>("kind");
  const bool first_order = kind == "fomaml" || kind == "reptile";
  const Order order = order_from(f, first_order ? Order::first : Order::second);
  if (first_order && order != Order::first) f.refuse(fmt::format("is {} of the second order", kind));
  const int steps = f.get<int>("steps");
  const auto rate = f.get<double>("rate");
  if (kind == "maml" || kind == "fomaml") {
    Maml maml{.steps = steps, .rate = rate, .order = order};
    f.optional("rate_per_layer", maml.rate_per_layer), f.optional("rate_per_step", maml.rate_per_step);
    f.optional("rate_learned", maml.rate_learned), f.optional("rates", maml.rates);
    return maml;
  }
  if (kind == "anil")
    return Anil{.steps = steps, .rate = rate, .first_adapted_layer = first_adapted(f), .order = order};
  if (kind == "meta_sgd") return MetaSgd{.steps = steps, .rate = rate, .order = order};
  if (kind == "reptile") {
    Reptile reptile{.steps = steps, .rate = rate};
    f.optional_word("inner", reptile.inner, {{"sgd", Reptile::Inner::sgd}, {"adam", Reptile::Inner::adam}});
    f.optional_word("inner_state", reptile.inner_state,
                    {{"carried", Reptile::InnerState::carried}, {"fresh", Reptile::InnerState::fresh}});
    f.optional("beta2", reptile.beta2), f.optional("eps", reptile.eps), f.optional("batch", reptile.batch);
    return reptile;
  }
  f.refuse(fmt::format("is of the kind {}, which the library does not have", kind));
}

Loss loss_from(Fields& f) {
  Reduction reduction = Reduction::mean;
  f.optional_word("reduction", reduction,
                  {{"mean", Reduction::mean}, {"sum", Reduction::sum}, {"sum_over_ways", Reduction::sum_over_ways}});
  if (f.word<bool>("loss", {{"softmax_cross_entropy", true}, {"mean_squared_error", false}}))
    return SoftmaxCrossEntropy{reduction};
  return MeanSquaredError{reduction};
}

}  // namespace

GoldenProblem golden_problem(const std::string& name, const std::string& json) {
  const nlohmann::json object = nlohmann::json::parse(json);
  Fields f(object, name);
  GoldenProblem g;
  g.name = name;
  const auto in = f.get<std::vector<int>>("input");
  if (in.size() != 1 && in.size() != 3)
    f.refuse("has an input that is neither [features] nor [channels, height, width]");
  g.model.input = in.size() == 1 ? features(in[0]) : image(in[1], in[2], in[0]);
  for (const auto& layer : f.at("layers")) {
    Fields fields(layer, fmt::format("{}, layer {},", name, g.model.layers.size()));
    g.model.layers.push_back(layer_from(fields));
    fields.finish();
  }
  g.model.loss = loss_from(f);
  Fields algorithm(f.at("algorithm"), name + ", the algorithm,");
  g.algorithm = algorithm_from(algorithm);
  algorithm.finish();
  g.tasks = f.get<int>("tasks"), g.support = f.get<int>("support"), g.query = f.get<int>("query");
  f.finish();
  return g;
}

}  // namespace cumeta::testing
