// SPDX-License-Identifier: Apache-2.0
// Checkpoints: safetensors with PyTorch's names, shapes and orders for parameters; moments, rates and statistics beside
// them; counters, algorithm and recipe as metadata. Nothing of the clock or the machine: equal state = equal file.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>

#include "cumeta/error.h"
#include "src/fastest.h"
#include "src/learner_impl.h"
#include "src/model_text.h"
#include "src/parameters.h"
#include "src/safetensors.h"

namespace cumeta {

namespace {

constexpr const char* format_name = "cumeta checkpoint 1";
constexpr const char* trained_format_name = "cumeta trained parameters 1";

/// float32 holds what the fast devices compute in; the reference's doubles keep their bits.
safetensors::Tensor exact_tensor(std::span<const double> values, const std::vector<std::int64_t>& shape) {
  const std::vector<float> narrow(values.begin(), values.end());
  bool exact = true;
  for (std::size_t i = 0; i < narrow.size(); ++i)
    exact &= std::bit_cast<std::uint64_t>(static_cast<double>(narrow[i])) == std::bit_cast<std::uint64_t>(values[i]);
  return exact ? safetensors::tensor(std::span<const float>(narrow), shape) : safetensors::tensor(values, shape);
}

/// Writes or reads one vector over all parameters, array by array, as prefix + name.
void put(safetensors::File& file, const Model& model, const std::string& prefix, std::span<const double> flat) {
  for (const NamedArray& a : to_pytorch(model, flat))
    file.tensors[prefix + a.name] = exact_tensor(a.values, {a.shape.begin(), a.shape.end()});
}

std::vector<double> get(const safetensors::File& file, const std::string& path, const Model& model,
                        const std::string& prefix) {
  std::vector<NamedArray> arrays;
  for (const Parameter& a : cumeta::parameters(model)) {
    const safetensors::Tensor& t = file.at(prefix + a.name, path);
    const std::vector<std::int64_t> shape(a.shape.begin(), a.shape.end());
    if (t.shape != shape)
      throw FileError(fmt::format("{}: {}{} has shape {}, the model needs {}; use the model that made the file", path,
                                  prefix, a.name, safetensors::text_of(t.shape), safetensors::text_of(shape)));
    arrays.push_back({a.name, a.shape, safetensors::doubles(t)});
  }
  return from_pytorch(model, arrays);
}

void put_running(safetensors::File& file, const Model& model, std::span<const double> values) {
  for (const ParameterArray& a : running_arrays(model)) {
    const auto at = static_cast<std::size_t>(a.parameter.offset), size = static_cast<std::size_t>(a.parameter.size);
    file.tensors[a.parameter.name] = exact_tensor(to_file_order(a, values.subspan(at, size)), {a.parameter.size});
  }
}
std::vector<double> get_running(const safetensors::File& file, const std::string& path, const Model& model,
                                std::int64_t size) {
  std::vector<double> values(static_cast<std::size_t>(size));
  for (const ParameterArray& a : running_arrays(model)) {
    const safetensors::Tensor& t = file.at(a.parameter.name, path);
    if (t.shape != std::vector<std::int64_t>{a.parameter.size})
      throw FileError(fmt::format("{}: {} has the shape [{}], [{}] is needed; use the recipe that made the file", path,
                                  a.parameter.name, fmt::join(t.shape, ", "), a.parameter.size));
    const std::vector<double> part = safetensors::doubles(t);
    const bool is_variance = a.parameter.name.ends_with("running_var");
    for (const double value : part)
      if (!std::isfinite(value) || (is_variance && value < 0))
        throw FileError(fmt::format("{}: {} holds {}", path, a.parameter.name, value));
    from_file_order(a, part,
                    std::span(values).subspan(static_cast<std::size_t>(a.parameter.offset),
                                              static_cast<std::size_t>(a.parameter.size)));
  }
  return values;
}
/// Whether the file has any; files of before had them all in one array.
bool holds_running(const safetensors::File& file, const Model& model) {
  const std::vector<ParameterArray> arrays = running_arrays(model);
  return file.tensors.contains("running_statistics") ||
         std::any_of(arrays.begin(), arrays.end(),
                     [&](const ParameterArray& a) { return file.tensors.contains(a.parameter.name); });
}

const std::string& text(const safetensors::File& file, const std::string& path, const std::string& key) {
  const auto found = file.metadata.find(key);
  if (found == file.metadata.end())
    throw FileError(fmt::format("{}: no \"{}\" in its metadata; this is no checkpoint of cumeta", path, key));
  return found->second;
}
std::int64_t count(const safetensors::File& file, const std::string& path, const std::string& key) {
  const std::string& value = text(file, path, key);
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc{} || end != value.data() + value.size() || number < 0)
    throw FileError(fmt::format("{}: {} is \"{}\", not a count; the file is damaged", path, key, value));
  return number;
}

/// What the optimizer's state is made of.
std::string optimizer_name(const Optimizer& optimizer) {
  if (std::holds_alternative<Adam>(optimizer)) return "adam";
  return std::get<Sgd>(optimizer).momentum != 0 ? "sgd with momentum" : "sgd";
}
/// Whether the rates are learned, and how many rows there are.
std::string rates_name(const Problem& p) {
  return p.learned_rates ? fmt::format("learned, {} row{}", p.rate_rows, p.rate_rows == 1 ? "" : "s") : "fixed";
}

std::string rate_name(int row) { return fmt::format("rates.{}.", row); }

/// All rate rows of a file that has any, which must be as many as the learner's and fit its adapted set.
std::vector<double> get_rates(const safetensors::File& file, const std::string& path, const Problem& p) {
  const std::string first = cumeta::parameters(p.model).front().name;
  int rows = 0;
  while (file.tensors.contains(rate_name(rows) + first)) ++rows;
  std::vector<double> rates;
  if (rows == 0) return rates;
  if (rows != p.rate_rows)
    throw FileError(fmt::format("{}: holds {} row{} of rates, this learner has {}; use the recipe that made the file",
                                path, rows, rows == 1 ? "" : "s", p.rate_rows));
  for (int k = 0; k < rows; ++k) {
    const std::vector<double> row = get(file, path, p.model, rate_name(k));
    rates.insert(rates.end(), row.begin(), row.end());
  }
  if (const std::string wrong = wrong_rates(p, rates); !wrong.empty())
    throw FileError(fmt::format("{}: {}; use the recipe that made the file", path, wrong));
  return rates;
}

}  // namespace

void Learner::Impl::write_checkpoint(const std::string& path, const std::string& recipe, bool moments) const {
  const Impl& im = *this;
  const int P = im.shape.layout.parameters;
  safetensors::File file;
  // Everything of the size of the meta-parameters: the parameters' part, then a row per kept rate.
  auto put_meta = [&](const std::string& prefix, Array row) {
    if (!row) return;
    const std::vector<double> all = im.download(row);
    const std::span<const double> values(all);
    put(file, im.model, prefix, values.first(static_cast<std::size_t>(P)));
    for (int k = 0; im.shape.learned_rates && k < im.shape.rate_rows; ++k)
      put(file, im.model, prefix + rate_name(k),
          values.subspan(static_cast<std::size_t>(1 + k) * static_cast<std::size_t>(P), static_cast<std::size_t>(P)));
  };
  put_meta("", im.state.meta);
  if (moments) put_meta("optimizer.first.", im.state.first);
  if (moments) put_meta("optimizer.second.", im.state.second);
  if (im.rates_given) {
    const std::vector<double> all = im.download(im.state.rates);
    for (int k = 0; k < im.shape.rate_rows; ++k)
      put(file, im.model, rate_name(k),
          std::span(all).subspan(static_cast<std::size_t>(k) * static_cast<std::size_t>(P),
                                 static_cast<std::size_t>(P)));
  }
  if (im.state.inner_second) put(file, im.model, "inner.second.", im.download(im.state.inner_second));
  if (im.state.running) put_running(file, im.model, im.download(im.state.running));
  file.metadata = {{"format", moments ? format_name : trained_format_name},
                   {"algorithm", name_of(im.algorithm)},
                   {"order", to_string(im.shape.order)},
                   {"precision", to_string(im.options.precision, im.options.device)},
                   {"optimizer", optimizer_name(im.options.optimizer)},
                   {"steps", std::to_string(im.shape.steps)},
                   {"adapted_set", fmt::format("{}", fmt::join(im.adapted_set, " "))},
                   {"model", model_text(im.model)},
                   {"rates", rates_name(im.shape)},
                   {"inner_state", im.shape.carries_second_moment() ? "carried" : "none"},
                   {"updates", std::to_string(im.updates)},
                   {"skipped", std::to_string(im.skipped)},
                   {"seed", std::to_string(im.options.seed)},
                   {"implementation", to_string(im.options.implementation)},
                   {"recipe", recipe}};
  const std::vector<double> applied = im.download(im.state.applied);
  const auto steps = [&](Applied i) { return fmt::format("{:.0f}", applied[static_cast<std::size_t>(i)]); };
  if (moments) file.metadata["optimizer_steps"] = steps(kAppliedSteps);
  if (im.state.inner_second) file.metadata["inner_steps"] = steps(kAppliedInnerSteps);
  if (im.measured) file.metadata["implementation_layers"] = text_of(im.implementations);
  safetensors::write(path, file);
}

void Learner::Impl::read_checkpoint(const std::string& path, bool moments) {
  Impl& im = *this;
  const safetensors::File file = safetensors::read(path, safetensors::Checksum::required);
  auto same = [&](const char* key, const std::string& mine) {
    const std::string& theirs = text(file, path, key);
    if (theirs != mine)
      throw FileError(fmt::format("{}: {} is {}, this learner's is {}; use the recipe that made the file", path, key,
                                  theirs, mine));
  };
  const bool trained_only = text(file, path, "format") == trained_format_name;
  if (moments && trained_only)
    throw FileError(
        fmt::format("{}: holds trained parameters without the optimizer's moments; resume from a run's "
                    "last.safetensors, or start a new run from it with --init",
                    path));
  if (!trained_only) same("format", format_name);
  same("algorithm", name_of(im.algorithm));
  same("order", to_string(im.shape.order));
  same("model", model_text(im.model));
  same("rates", rates_name(im.shape));
  same("inner_state", im.shape.carries_second_moment() ? "carried" : "none");
  if (moments) {
    same("steps", std::to_string(im.shape.steps));
    same("adapted_set", fmt::format("{}", fmt::join(im.adapted_set, " ")));
    same("optimizer", optimizer_name(im.options.optimizer));
    same("seed", std::to_string(im.options.seed));
  }
  const std::int64_t done = count(file, path, "updates"), left_out = count(file, path, "skipped");
  std::vector<std::pair<Array, std::vector<double>>> all;
  auto get_meta = [&](const std::string& prefix, Array row) {
    if (!row) return;
    std::vector<double> values = get(file, path, im.model, prefix);
    for (int k = 0; im.shape.learned_rates && k < im.shape.rate_rows; ++k) {
      const std::vector<double> rates = get(file, path, im.model, prefix + rate_name(k));
      values.insert(values.end(), rates.begin(), rates.end());
    }
    all.emplace_back(row, std::move(values));
  };
  get_meta("", im.state.meta);
  if (moments) get_meta("optimizer.first.", im.state.first);
  if (moments) get_meta("optimizer.second.", im.state.second);
  if (im.state.inner_second) all.emplace_back(im.state.inner_second, get(file, path, im.model, "inner.second."));
  if (im.state.running) all.emplace_back(im.state.running, get_running(file, path, im.model, im.state.running.size));
  // Fixed rates that differ from the recipe's stand in the file; without them the recipe's hold again.
  std::vector<double> rates = get_rates(file, path, im.shape);
  const bool given = !im.shape.learned_rates && !rates.empty();
  if (!im.shape.learned_rates) all.emplace_back(im.state.rates, given ? std::move(rates) : initial_rates(im.shape));
  // Trained parameters alone: the optimizer starts afresh, and Adam's bias correction counts from here. A file from
  // before these counts were kept took every update for a step.
  const auto steps = [&](const char* key, std::int64_t before) {
    return static_cast<double>(file.metadata.contains(key) ? count(file, path, key) : before);
  };
  std::vector<double> applied(kAppliedSize, 0.0);
  if (moments)
    applied[kAppliedSteps] = steps(
        "optimizer_steps", done - (file.metadata.contains("moments_since") ? count(file, path, "moments_since") : 0));
  if (im.state.inner_second) applied[kAppliedInnerSteps] = steps("inner_steps", done * im.shape.steps);
  all.emplace_back(im.state.applied, std::move(applied));
  for (const Array moment : {im.state.first, im.state.second})
    if (!moments && moment) all.emplace_back(moment, std::vector<double>(static_cast<std::size_t>(moment.size), 0.0));
  // What was measured once stays as it was, so that going on gives the bits of never having stopped.
  const auto chosen = file.metadata.find("implementation_layers");
  if (im.options.implementation == Implementation::fastest && chosen != file.metadata.end()) {
    LayerImplementations layers = implementations_from(chosen->second, im.model);
    if (layers.empty())
      throw FileError(
          fmt::format("{}: implementation_layers is \"{}\", not own, unfused or vendor for each of the {} layers; "
                      "use the model that made the file",
                      path, chosen->second, im.model.layers.size()));
    im.adopt(std::move(layers));
  }
  for (const auto& [row, values] : all) im.backend->upload(values, row);
  im.updates = done, im.skipped = left_out, im.rates_given = given;
}

void Learner::save(const std::string& path, const std::string& recipe) const {
  impl_->write_checkpoint(path, recipe, true);
}
void Learner::save_trained(const std::string& path, const std::string& recipe) const {
  impl_->write_checkpoint(path, recipe, false);
}
void Learner::load(const std::string& path) { impl_->read_checkpoint(path, true); }
void Learner::load_trained(const std::string& path) { impl_->read_checkpoint(path, false); }

void Learner::load_parameters(const std::string& path) {
  Impl& im = *impl_;
  const safetensors::File file = safetensors::read(path);
  const std::vector<double> values = get(file, path, im.model, "");
  // Learned rates are no fixed ones, nor the other way round: a file that names their kind gives them to its like.
  const auto kind = file.metadata.find("rates");
  const bool alike = kind == file.metadata.end() || kind->second.starts_with("learned") == im.shape.learned_rates;
  std::vector<double> rates = alike ? get_rates(file, path, im.shape) : std::vector<double>{};
  const bool given = !im.shape.learned_rates && !rates.empty();
  std::vector<double> running;
  if (im.state.running && holds_running(file, im.model))
    running = get_running(file, path, im.model, im.state.running.size);
  im.start_run();
  set_parameters(values);
  im.backend->upload(rates.empty() ? initial_rates(im.shape) : rates, im.state.rates);
  im.rates_given = given;
  if (!running.empty()) im.backend->upload(running, im.state.running);
}

std::string Learner::recipe_in(const std::string& path) {
  return text(safetensors::read(path, safetensors::Checksum::required), path, "recipe");
}

}  // namespace cumeta
