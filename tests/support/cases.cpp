// SPDX-License-Identifier: Apache-2.0
// The list of cases; names say the sizes, so that a filter of the test program repeats one.
#include "tests/support/cases.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <ostream>

#include "kernels/all_layers.h"

namespace cumeta::testing {
namespace {

std::string shape_text(Shape s) { return fmt::format("{}x{}x{}", s.height, s.width, s.channels); }

std::string describe(const Linear& l) { return fmt::format("Linear_{}{}", l.outputs, l.bias ? "" : "_nobias"); }
std::string describe(const Conv2d& l) {
  return fmt::format("Conv2d_f{}_k{}_s{}_p{}{}", l.filters, l.kernel, l.stride, l.padding, l.bias ? "" : "_nobias");
}
std::string describe(const BatchNorm& l) {
  return fmt::format("BatchNorm{}{}", l.scale ? "_scale" : "", l.shift ? "_shift" : "");
}
std::string describe(const Relu&) { return "Relu"; }
std::string describe(const LeakyRelu& l) { return fmt::format("LeakyRelu_{:02.0f}percent", 100 * l.slope); }
std::string describe(const Tanh&) { return "Tanh"; }
std::string describe(const MaxPool2d& l) { return fmt::format("MaxPool2d_k{}_s{}", l.kernel, l.stride); }
std::string describe(const ConvBlock& b) {
  return fmt::format("ConvBlock_{}_{}{}", describe(b.convolution), describe(b.norm),
                     b.pooled ? fmt::format("_{}", describe(b.pool)) : std::string());
}
std::string describe(const GlobalAveragePool&) { return "GlobalAveragePool"; }
std::string describe(const PooledLinear& l) {
  return fmt::format("PooledLinear_{}{}", l.linear.outputs, l.linear.bias ? "" : "_nobias");
}
template <class L>
std::string describe(const Vendor<L>& v) {
  return "Vendor" + describe(v.layer);
}

LayerCase named(LayerCase c) {
  const Geometry& g = c.geometry;
  c.name = std::visit([](const auto& l) { return describe(l); }, c.stage);
  c.name += fmt::format("_in{}_e{}", shape_text(g.input), g.examples);
  if (std::holds_alternative<BatchNorm>(c.stage) || std::holds_alternative<ConvBlock>(c.stage))
    c.name += g.statistics_rows == 0           ? "_given"
              : g.statistics_rows < g.examples ? fmt::format("_support{}", g.statistics_rows)
                                               : "_batch";
  c.name += fmt::format("_t{}", c.tasks);
  for (const auto& [on, text] : {std::pair{c.shared_w, "_sharedw"},
                                 {c.no_Rw, "_noRw"},
                                 {c.no_Rx, "_noRx"},
                                 {c.no_dx, "_nodx"},
                                 {c.no_dw, "_nodw"}})
    if (on) c.name += text;
  if (c.fill == Fill::integers) c.name += "_integers";
  if (c.fill == Fill::far) c.name += "_far";
  return c;
}

/// The roles that a layer plays in a model: at the bottom, frozen, at a shared w.
void add_roles(std::vector<LayerCase>& cases, const LayerCase& base) {
  cases.push_back(base);
  const auto with = [&](auto change) {
    LayerCase c = base;
    change(c);
    cases.push_back(c);
  };
  const bool has_w = std::visit([&](const auto& l) { return parameters(l, base.geometry.input) > 0; }, base.stage);
  with([](LayerCase& c) { c.no_Rx = true; });
  with([](LayerCase& c) { c.tasks = 1; });
  if (has_w) {
    with([](LayerCase& c) { c.shared_w = true; });
    with([](LayerCase& c) { c.no_Rx = c.no_dx = true; });
    with([](LayerCase& c) { c.no_dx = true; });
    with([](LayerCase& c) { c.no_Rw = true; });
    with([](LayerCase& c) { c.no_dw = true; });
    with([](LayerCase& c) { c.no_Rw = c.no_dw = true; });
    with([](LayerCase& c) { c.shared_w = true, c.no_Rx = c.no_dx = true, c.tasks = 25; });
  }
}

LayerCase linear(int inputs, int outputs, bool bias, int examples, int tasks) {
  return {.name = {},
          .stage = Linear{.outputs = outputs, .bias = bias},
          .geometry = {features(inputs), examples, 0},
          .tasks = tasks};
}
LayerCase convolution(Shape in, int filters, int kernel, int stride, int padding, int examples, int tasks,
                      bool bias = true) {
  return {.name = {},
          .stage = Conv2d{.filters = filters, .kernel = kernel, .stride = stride, .padding = padding, .bias = bias},
          .geometry = {in, examples, 0},
          .tasks = tasks};
}
LayerCase batch_norm(Shape in, bool scale, bool shift, int examples, int statistics_rows, int tasks) {
  return {.name = {},
          .stage = BatchNorm{.scale = scale, .shift = shift},
          .geometry = {in, examples, statistics_rows},
          .tasks = tasks};
}
LayerCase plain(Stage stage, Shape in, int examples, int tasks, Fill fill = Fill::random) {
  return {.name = {}, .stage = std::move(stage), .geometry = {in, examples, 0}, .tasks = tasks, .fill = fill};
}

void add_linear(std::vector<LayerCase>& cases) {
  add_roles(cases, linear(7, 5, true, 6, 3));
  add_roles(cases, linear(40, 40, true, 10, 2));  // the sinusoid's middle layer
  for (const auto& c :
       {linear(1, 1, true, 1, 1), linear(1, 40, true, 10, 25), linear(40, 1, true, 10, 25), linear(3, 1, false, 1, 1),
        linear(64, 5, true, 5, 3), linear(64, 20, true, 20, 3), linear(65, 33, false, 3, 2), linear(2, 65, true, 1, 3),
        linear(33, 17, true, 31, 3), linear(16, 16, false, 4, 3), linear(63, 64, true, 75, 1),
        // few outputs: miniImageNet's head, more slices of k than one, more rows than a block has numbers
        linear(800, 5, true, 5, 2), linear(515, 3, false, 21, 1), linear(270, 32, true, 2, 17),
        linear(21, 11, true, 75, 18)})
    cases.push_back(c);
  LayerCase image_input = linear(1, 10, true, 3, 3);
  image_input.geometry.input = image(4, 3, 2);  // a flattened image
  cases.push_back(image_input);
}

void add_convolutions(std::vector<LayerCase>& cases) {
  add_roles(cases, convolution(image(5, 6, 3), 5, 3, 1, 1, 2, 3));
  add_roles(cases, convolution(image(8, 8, 4), 5, 3, 2, 1, 3, 2));
  add_roles(cases, convolution(image(6, 5, 3), 8, 3, 1, 1, 3, 2));
  for (const auto& c : {
           convolution(image(5, 5, 1), 1, 1, 1, 0, 1, 1),
           convolution(image(6, 7, 3), 5, 1, 2, 0, 2, 3),
           convolution(image(4, 4, 64), 5, 1, 1, 0, 2, 2),
           convolution(image(7, 7, 3), 5, 3, 1, 0, 2, 3, false),
           convolution(image(9, 9, 3), 5, 3, 3, 0, 2, 3),
           convolution(image(10, 9, 4), 64, 3, 3, 1, 2, 2),
           convolution(image(3, 3, 2), 3, 3, 1, 2, 2, 3),
           convolution(image(7, 5, 3), 4, 5, 1, 2, 2, 3),
           convolution(image(9, 9, 1), 3, 5, 2, 2, 2, 25),
           convolution(image(10, 10, 3), 1, 5, 3, 1, 2, 3),
           convolution(image(1, 1, 3), 4, 3, 1, 1, 3, 3),
           convolution(image(6, 6, 3), 65, 3, 1, 1, 1, 1),
           convolution(image(3, 3, 33), 17, 3, 1, 1, 2, 2),
           // Omniglot's four layers, miniImageNet's first and an inner one
           convolution(image(28, 28, 1), 64, 3, 2, 1, 5, 2),
           convolution(image(14, 14, 64), 64, 3, 2, 1, 1, 2),
           convolution(image(14, 14, 64), 64, 3, 2, 1, 4, 1),
           convolution(image(7, 7, 64), 64, 3, 2, 1, 5, 2),
           convolution(image(4, 4, 64), 64, 3, 2, 1, 5, 3),
           convolution(image(21, 21, 3), 32, 3, 1, 1, 1, 2),
           convolution(image(10, 10, 32), 32, 3, 1, 1, 1, 2),
           convolution(image(13, 13, 32), 32, 3, 1, 1, 1, 1),
           convolution(image(5, 6, 4), 4, 15, 1, 7, 1, 2),  // more taps to a side than a word has bits for
           // more pixels than one block's sum of a weight gradient
           convolution(image(21, 21, 3), 32, 3, 1, 1, 5, 1),
           convolution(image(24, 24, 8), 8, 3, 1, 1, 4, 1),
           // few channels and filters by fours: one to three tiles of filters, taps in one part and in two, more of
           // them than a short tile takes, splits with a remainder
           convolution(image(6, 7, 3), 20, 1, 2, 0, 2, 3),
           convolution(image(9, 8, 1), 96, 5, 1, 2, 3, 2, false),
           convolution(image(7, 9, 2), 36, 5, 3, 1, 2, 17),
           convolution(image(11, 7, 3), 20, 5, 2, 2, 3, 2),
           convolution(image(13, 11, 3), 64, 3, 1, 1, 4, 2),
           convolution(image(12, 17, 1), 4, 4, 1, 1, 3, 2),
           convolution(image(8, 8, 5), 8, 3, 2, 0, 2, 2, false),
       })
    cases.push_back(c);
}

void add_batch_norms(std::vector<LayerCase>& cases) {
  for (const bool scale : {true, false})
    for (const bool shift : {true, false})
      for (const int statistics_rows : {6, 4, 0})
        cases.push_back(batch_norm(image(3, 4, 5), scale, shift, 6, statistics_rows, 3));
  add_roles(cases, batch_norm(image(3, 3, 7), true, true, 4, 4, 3));
  add_roles(cases, batch_norm(image(2, 2, 4), true, true, 5, 2, 3));
  for (const auto& c :
       {batch_norm(features(1), true, true, 10, 10, 25), batch_norm(features(65), true, true, 9, 4, 3),
        batch_norm(image(14, 14, 64), true, true, 5, 5, 2), batch_norm(image(2, 2, 64), false, true, 10, 5, 3),
        batch_norm(image(2, 2, 33), true, true, 1, 1, 3), batch_norm(image(7, 7, 64), true, true, 30, 5, 1),
        // more rows than one block sums: by four channels and one by one, statistics of some rows, of none
        batch_norm(image(40, 40, 4), true, true, 3, 3, 2), batch_norm(image(41, 50, 3), true, true, 3, 1, 1),
        batch_norm(image(40, 40, 4), true, true, 3, 0, 1)})
    cases.push_back(c);
  // a mean far beyond the deviation: of few rows, of as many as one block sums, of chunks
  for (LayerCase c :
       {batch_norm(image(3, 3, 5), true, true, 4, 4, 3), batch_norm(image(26, 26, 4), true, true, 6, 6, 2),
        batch_norm(image(41, 50, 3), true, true, 4, 3, 1)}) {
    c.fill = Fill::far;
    cases.push_back(c);
  }
}

LayerCase conv_block(Shape in, Conv2d convolution, bool pooled, int examples, int statistics_rows, int tasks,
                     BatchNorm norm = {}, MaxPool2d pool = {}) {
  return {.name = {},
          .stage = ConvBlock{convolution, norm, pooled, pool},
          .geometry = {in, examples, statistics_rows},
          .tasks = tasks};
}

void add_conv_blocks(std::vector<LayerCase>& cases) {
  const auto filters = [](int count, int stride, int kernel = 3, int padding = 1) {
    return Conv2d{.filters = count, .kernel = kernel, .stride = stride, .padding = padding};
  };
  add_roles(cases, conv_block(image(4, 4, 8), filters(12, 2), false, 4, 4, 2));
  for (const auto& c : {
           conv_block(image(5, 6, 3), filters(5, 1), false, 2, 2, 3),
           conv_block(image(5, 6, 3), filters(5, 1), true, 3, 2, 3),
           conv_block(image(7, 6, 3), filters(5, 2), false, 4, 3, 3, {.scale = false}),
           conv_block(image(5, 6, 4), filters(8, 1), true, 2, 2, 2, {.shift = false}),
           conv_block(image(9, 9, 4), filters(8, 1), true, 2, 2, 2, {}, {.kernel = 3, .stride = 2}),
           conv_block(image(9, 9, 4), filters(8, 3), false, 2, 2, 2),
           conv_block(image(4, 4, 4), filters(4, 1, 1, 0), false, 2, 2, 2),
           conv_block(image(7, 7, 64), filters(64, 2), false, 5, 5, 2),
           conv_block(image(4, 4, 64), filters(64, 2), false, 5, 5, 3),
           conv_block(image(9, 9, 32), filters(32, 1), true, 3, 2, 2),
           conv_block(image(40, 40, 4), filters(8, 1), true, 3, 3, 1),  // more rows than one block sums
           conv_block(image(5, 6, 4), filters(20, 1), true, 2, 0, 3),
           conv_block(image(17, 9, 3), filters(5, 1), false, 3, 0, 2),
       })
    cases.push_back(c);
  LayerCase first = conv_block(image(28, 28, 1), filters(64, 2), false, 2, 2, 2);
  first.no_Rx = first.no_dx = true;
  cases.push_back(first);
  // few channels: dx wanted, not wanted, statistics of some rows, two tiles of filters
  cases.push_back(conv_block(image(9, 8, 3), filters(20, 2), true, 3, 2, 2));
  first = conv_block(image(11, 9, 3), filters(36, 1), true, 3, 2, 2);
  first.no_dx = true;
  cases.push_back(first);
  first = conv_block(image(40, 40, 3), filters(8, 1), false, 1, 1, 1);  // dw in splits
  first.no_Rx = first.no_dx = true;
  cases.push_back(first);
}

void add_pointwise_and_pools(std::vector<LayerCase>& cases) {
  for (const Stage& stage : {Stage{Relu{}}, Stage{LeakyRelu{}}, Stage{LeakyRelu{.slope = 0.3}}, Stage{Tanh{}}}) {
    cases.push_back(plain(stage, features(1), 1, 1));
    cases.push_back(plain(stage, image(14, 14, 16), 3, 2));
    cases.push_back(plain(stage, features(40), 10, 25));
  }
  for (const Stage& stage : {Stage{Relu{}}, Stage{LeakyRelu{.slope = 0.2}}, Stage{Tanh{}}}) {
    add_roles(cases, plain(stage, image(3, 5, 7), 2, 3));
    cases.push_back(plain(stage, image(4, 5, 3), 2, 3, Fill::integers));  // zeros among them: the derivative at 0
  }
  add_roles(cases, plain(MaxPool2d{}, image(5, 7, 3), 2, 3));  // a remainder on both sides
  for (const auto& c :
       {plain(MaxPool2d{}, image(4, 4, 1), 1, 1), plain(MaxPool2d{.kernel = 3, .stride = 2}, image(7, 8, 3), 2, 3),
        plain(MaxPool2d{.kernel = 3, .stride = 1}, image(5, 6, 2), 2, 3),
        plain(MaxPool2d{.kernel = 2, .stride = 3}, image(8, 9, 2), 2, 3),
        plain(MaxPool2d{.kernel = 1, .stride = 1}, image(3, 3, 2), 2, 3),
        plain(MaxPool2d{.kernel = 4, .stride = 4}, image(4, 4, 5), 3, 25), plain(MaxPool2d{}, image(14, 14, 64), 2, 2),
        plain(MaxPool2d{}, image(6, 6, 4), 3, 3, Fill::integers),
        plain(MaxPool2d{.kernel = 3, .stride = 2}, image(7, 7, 4), 3, 3, Fill::integers)})
    cases.push_back(c);
  add_roles(cases, plain(GlobalAveragePool{}, image(7, 5, 3), 2, 3));
  for (const auto& c :
       {plain(GlobalAveragePool{}, image(2, 2, 64), 5, 25), plain(GlobalAveragePool{}, features(4), 2, 1)})
    cases.push_back(c);
}

void add_pooled_linears(std::vector<LayerCase>& cases) {
  const auto pooled = [](Shape in, int outputs, int examples, int tasks, bool bias = true) {
    return plain(PooledLinear{{.outputs = outputs, .bias = bias}}, in, examples, tasks);
  };
  add_roles(cases, pooled(image(3, 2, 7), 6, 5, 3));
  add_roles(cases, pooled(image(2, 2, 33), 3, 4, 2, false));
  // Omniglot's head for 5 and 20 classes, and sizes about the edges of warps and blocks
  for (const auto& c : {pooled(image(2, 2, 64), 5, 5, 25), pooled(image(2, 2, 64), 20, 20, 2),
                        pooled(image(1, 1, 1), 1, 1, 1), pooled(image(5, 5, 32), 5, 75, 1),
                        pooled(image(3, 4, 31), 11, 9, 2), pooled(image(2, 3, 128), 26, 3, 2, false)})
    cases.push_back(c);
}

LossCase loss(Loss l, int outputs, int examples, int first_row, double factor, int tasks, double spread = 2.0) {
  const char* name = std::holds_alternative<SoftmaxCrossEntropy>(l) ? "SoftmaxCrossEntropy" : "MeanSquaredError";
  return {.name = fmt::format("{}_{}_e{}_from{}_factor{}_t{}_spread{}", name, outputs, examples, first_row, factor,
                              tasks, spread),
          .loss = l,
          .geometry = {outputs, examples, first_row, factor},
          .tasks = tasks,
          .spread = spread};
}

}  // namespace

std::vector<LayerCase> layer_cases() {
  std::vector<LayerCase> cases;
  add_linear(cases);
  add_convolutions(cases);
  add_batch_norms(cases);
  add_conv_blocks(cases);
  add_pointwise_and_pools(cases);
  add_pooled_linears(cases);
  for (LayerCase& c : cases) c = named(c);
  return cases;
}

std::vector<LayerCase> large_cases() {
  std::vector<LayerCase> cases{
      // more rows than a chain of additions in float bears
      batch_norm(image(84, 84, 1), true, true, 20, 20, 1), batch_norm(image(84, 84, 1), true, true, 20, 5, 1),
      convolution(image(84, 84, 1), 2, 1, 1, 0, 20, 1), convolution(image(1, 1, 1), 65, 1, 1, 0, 1500, 1),
      // on the CPU more images than one chunk holds, with padded images and without
      convolution(image(28, 28, 1), 64, 3, 2, 1, 11, 1), convolution(image(7, 7, 64), 64, 3, 2, 1, 33, 1),
      // on the CPU more taps to a side than one sum has segments for, in both terms of a tangent
      convolution(image(18, 19, 8), 9, 17, 1, 8, 2, 2), convolution(image(18, 19, 8), 9, 17, 2, 3, 2, 2)};
  LayerCase far = batch_norm(image(84, 84, 1), true, true, 5, 5, 1);
  far.fill = Fill::far;
  cases.push_back(far);
  for (LayerCase& c : cases) c = named(c);
  return cases;
}

std::vector<LayerCase> vendor_cases() {
  std::vector<LayerCase> cases;
  add_linear(cases);
  add_convolutions(cases);
  for (LayerCase& c : cases) {
    if (const auto* linear = std::get_if<Linear>(&c.stage))
      c.stage = Vendor<Linear>{*linear};
    else
      c.stage = Vendor<Conv2d>{std::get<Conv2d>(c.stage)};
    c = named(c);
  }
  return cases;
}

std::vector<LayerCase> exact_cases() {
  std::vector<LayerCase> all = vendor_cases(), exact;
  add_linear(all);
  add_convolutions(all);
  for (LayerCase& c : all) {
    c.fill = Fill::integers;
    exact.push_back(named(c));
  }
  return exact;
}

std::vector<LossCase> loss_cases() {
  std::vector<LossCase> cases;
  for (const Loss& l : {Loss{SoftmaxCrossEntropy{}}, Loss{MeanSquaredError{}}}) {
    for (const auto& c :
         {loss(l, 5, 5, 0, 1, 3), loss(l, 5, 30, 5, 1, 3), loss(l, 5, 5, 0, 5, 3), loss(l, 20, 20, 0, 20, 2),
          loss(l, 2, 1, 0, 1, 1), loss(l, 1, 10, 0, 1, 25), loss(l, 65, 7, 3, 4, 3), loss(l, 5, 3, 2, 3, 3, 40)})
      cases.push_back(c);
    for (const bool hits : {false, true}) {
      LossCase c = loss(l, 5, 8, 3, 1, 3);
      (hits ? c.no_hits : c.no_dx) = true;
      c.name += hits ? "_nohits" : "_nodx";
      cases.push_back(c);
    }
  }
  // Right and sure of it: the loss and dx[label] are small, and no difference of large numbers may give them.
  for (const double confidence : {3.0, 8.0, 17.0, 30.0}) {
    LossCase c = loss(SoftmaxCrossEntropy{}, 5, 6, 1, 1, 2);
    c.confidence = confidence, c.name += fmt::format("_confidence{}", confidence);
    cases.push_back(c);
  }
  return cases;
}

std::vector<std::string> layer_kinds() {
  std::vector<std::string> kinds;
  for (const LayerCase& c : layer_cases()) {
    const std::string kind = c.name.substr(0, c.name.find('_'));
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.push_back(kind);
  }
  return kinds;
}

template <class Case>
std::vector<Case> of_kind(const std::vector<Case>& cases, const std::string& kind) {
  const char* only = std::getenv("CUMETA_CASE");
  std::vector<Case> kept;
  for (const Case& c : cases)
    if (c.name.starts_with(kind + "_") && (!only || c.name.find(only) != std::string::npos)) kept.push_back(c);
  return kept;
}
template std::vector<LayerCase> of_kind(const std::vector<LayerCase>&, const std::string&);
template std::vector<LossCase> of_kind(const std::vector<LossCase>&, const std::string&);

std::ostream& operator<<(std::ostream& out, const LayerCase& c) { return out << c.name; }
std::ostream& operator<<(std::ostream& out, const LossCase& c) { return out << c.name; }

std::int64_t multiply_adds(const LayerCase& c) {
  return std::visit(
      [&](const auto& l) {
        return std::int64_t{c.tasks} * c.geometry.examples * cumeta::multiply_adds(l, c.geometry.input);
      },
      c.stage);
}

}  // namespace cumeta::testing
