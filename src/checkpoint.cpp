// SPDX-License-Identifier: Apache-2.0
// Checkpoints: safetensors with PyTorch's names, shapes and orders for parameters; moments, rates and statistics beside
// them; counters, algorithm and recipe as metadata. Nothing of the clock or the machine: equal state = equal file.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <bit>
#include <charconv>

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

std::vector<std::int64_t> shape_of(const ParameterArray& a) {
  return {a.parameter.shape.begin(), a.parameter.shape.end()};
}

/// Writes or reads one vector over all parameters, array by array, as prefix + name.
void put(safetensors::File& file, const Model& model, const std::string& prefix, std::span<const double> flat) {
  for (const ParameterArray& a : parameter_arrays(model)) {
    const std::vector<double> values = to_file_order(
        a, flat.subspan(static_cast<std::size_t>(a.parameter.offset), static_cast<std::size_t>(a.parameter.size)));
    const std::vector<float> narrow(values.begin(), values.end());
    // float32 holds what the fast devices compute in; the reference's doubles keep their bits.
    bool exact = true;
    for (std::size_t i = 0; i < values.size(); ++i)
      exact &= std::bit_cast<std::uint64_t>(static_cast<double>(narrow[i])) == std::bit_cast<std::uint64_t>(values[i]);
    file.tensors[prefix + a.parameter.name] = exact ? safetensors::tensor(std::span<const float>(narrow), shape_of(a))
                                                    : safetensors::tensor(std::span<const double>(values), shape_of(a));
  }
}

std::vector<double> get(const safetensors::File& file, const std::string& path, const Model& model,
                        const std::string& prefix) {
  std::vector<double> flat(static_cast<std::size_t>(parameter_count(model)));
  for (const ParameterArray& a : parameter_arrays(model)) {
    const safetensors::Tensor& t = file.at(prefix + a.parameter.name, path);
    if (t.shape != shape_of(a))
      throw FileError(fmt::format("{}: {}{} has shape {}, the model needs {}; use the model that made the file", path,
                                  prefix, a.parameter.name, safetensors::text_of(t.shape),
                                  safetensors::text_of(shape_of(a))));
    from_file_order(a, safetensors::doubles(t),
                    std::span(flat).subspan(static_cast<std::size_t>(a.parameter.offset),
                                            static_cast<std::size_t>(a.parameter.size)));
  }
  return flat;
}

void put_numbers(safetensors::File& file, const std::string& name, const std::vector<double>& values) {
  file.tensors[name] = safetensors::tensor(std::span<const double>(values), {static_cast<std::int64_t>(values.size())});
}
std::vector<double> get_numbers(const safetensors::File& file, const std::string& path, const std::string& name,
                                std::int64_t size) {
  const safetensors::Tensor& t = file.at(name, path);
  if (static_cast<std::int64_t>(safetensors::elements(t)) != size)
    throw FileError(fmt::format("{}: {} has {} numbers, {} are needed; use the recipe that made the file", path, name,
                                safetensors::elements(t), size));
  return safetensors::doubles(t);
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
  if (im.state.running) put_numbers(file, "running_statistics", im.download(im.state.running));
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
  if (moments) file.metadata["moments_since"] = std::to_string(im.fresh_since);
  if (im.measured) file.metadata["implementation_layers"] = text_of(im.vendor);
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
  if (im.state.running)
    all.emplace_back(im.state.running, get_numbers(file, path, "running_statistics", im.state.running.size));
  // Fixed rates that differ from the recipe's stand in the file; without them the recipe's hold again.
  const bool given =
      !im.shape.learned_rates && file.tensors.contains(rate_name(0) + cumeta::parameters(im.model).front().name);
  std::vector<double> rates = im.shape.learned_rates ? std::vector<double>{} : initial_rates(im.shape);
  if (given) {
    rates.clear();
    for (int k = 0; k < im.shape.rate_rows; ++k) {
      const std::vector<double> row = get(file, path, im.model, rate_name(k));
      rates.insert(rates.end(), row.begin(), row.end());
    }
  }
  if (!rates.empty()) all.emplace_back(im.state.rates, std::move(rates));
  // Trained parameters alone: the optimizer starts afresh, and Adam's bias correction counts from here.
  std::int64_t since = done;
  if (moments) since = count(file, path, "moments_since");
  for (const Array moment : {im.state.first, im.state.second})
    if (!moments && moment) all.emplace_back(moment, std::vector<double>(static_cast<std::size_t>(moment.size), 0.0));
  // What was measured once stays as it was, so that going on gives the bits of never having stopped.
  const auto chosen = file.metadata.find("implementation_layers");
  if (im.options.implementation == Implementation::fastest && chosen != file.metadata.end()) {
    VendorLayers layers = vendor_layers_from(chosen->second, im.model);
    if (layers.empty())
      throw FileError(
          fmt::format("{}: implementation_layers is \"{}\", not \"own\" or \"vendor\" for each of the {} "
                      "layers; use the model that made the file",
                      path, chosen->second, im.model.layers.size()));
    im.adopt(std::move(layers));
  }
  for (const auto& [row, values] : all) im.backend->upload(values, row);
  im.updates = done, im.skipped = left_out, im.fresh_since = since, im.rates_given = given;
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
  std::vector<double> rates;
  if (im.shape.learned_rates && file.tensors.contains(rate_name(0) + cumeta::parameters(im.model).front().name))
    for (int k = 0; k < im.shape.rate_rows; ++k) {
      const std::vector<double> row = get(file, path, im.model, rate_name(k));
      rates.insert(rates.end(), row.begin(), row.end());
    }
  std::vector<double> running;
  if (im.state.running && file.tensors.contains("running_statistics"))
    running = get_numbers(file, path, "running_statistics", im.state.running.size);
  set_parameters(values);
  if (!rates.empty()) im.backend->upload(rates, im.state.rates);
  if (!running.empty()) im.backend->upload(running, im.state.running);
}

std::string Learner::recipe_in(const std::string& path) {
  return text(safetensors::read(path, safetensors::Checksum::required), path, "recipe");
}

std::vector<NamedArray> to_pytorch(const Model& model, std::span<const double> flat) {
  if (flat.size() != static_cast<std::size_t>(parameter_count(model)))
    throw InvalidArgument(fmt::format("the model has {} parameters, not {}", parameter_count(model), flat.size()));
  std::vector<NamedArray> all;
  for (const ParameterArray& a : parameter_arrays(model))
    all.push_back({a.parameter.name, a.parameter.shape,
                   to_file_order(a, flat.subspan(static_cast<std::size_t>(a.parameter.offset),
                                                 static_cast<std::size_t>(a.parameter.size)))});
  return all;
}

std::vector<double> from_pytorch(const Model& model, std::span<const NamedArray> arrays) {
  std::vector<double> flat(static_cast<std::size_t>(parameter_count(model)));
  for (const ParameterArray& a : parameter_arrays(model)) {
    const NamedArray* found = nullptr;
    for (const NamedArray& given : arrays)
      if (given.name == a.parameter.name) found = &given;
    if (!found) throw InvalidArgument(fmt::format("parameter {} is missing", a.parameter.name));
    if (found->shape != a.parameter.shape || found->values.size() != static_cast<std::size_t>(a.parameter.size))
      throw InvalidArgument(fmt::format("parameter {} has {} numbers in another shape than the model's {}",
                                        a.parameter.name, found->values.size(), a.parameter.size));
    from_file_order(a, found->values,
                    std::span(flat).subspan(static_cast<std::size_t>(a.parameter.offset),
                                            static_cast<std::size_t>(a.parameter.size)));
  }
  return flat;
}

}  // namespace cumeta
