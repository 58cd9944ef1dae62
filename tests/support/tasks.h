// SPDX-License-Identifier: Apache-2.0
// Small random tasks and models for tests of whole meta-updates.
#pragma once
#include <vector>

#include "cumeta/learner.h"
#include "kernels/tools/philox.h"

namespace cumeta::testing {

/// Owns what a TaskBatch points to.
struct Tasks {
  int tasks = 0, support = 0, query = 0;
  std::vector<float> support_x, support_y, query_x, query_y;
  TaskBatch batch() const { return {tasks, {support, support_x, support_y}, {query, query_x, query_y}}; }
  /// Tasks [first, first + count).
  Tasks part(int first, int count) const {
    auto cut = [&](const std::vector<float>& v) {
      const std::size_t per = v.size() / static_cast<std::size_t>(tasks);
      return std::vector<float>(v.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(first) * per),
                                v.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(first + count) * per));
    };
    return {count, support, query, cut(support_x), cut(support_y), cut(query_x), cut(query_y)};
  }
};

/// classes = 0: regression on `outputs` numbers.
inline Tasks random_tasks(const Model& model, int tasks, int support, int query, std::uint64_t seed) {
  Tasks all{tasks, support, query, {}, {}, {}, {}};
  const int outputs = output_count(model);
  const bool classes = std::holds_alternative<SoftmaxCrossEntropy>(model.loss);
  for (int t = 0; t < tasks; ++t) {
    Draws draws(seed, Purpose::test, 0, static_cast<std::uint32_t>(t));
    std::uint32_t next = 0;
    auto examples = [&](int count, std::vector<float>& x, std::vector<float>& y) {
      for (int i = 0; i < count * model.input.size(); ++i) x.push_back(draws.uniform(next++, -1.0F, 1.0F));
      for (int i = 0; i < count; ++i)
        if (classes)
          y.push_back(static_cast<float>(draws.choose(next++, static_cast<std::uint32_t>(outputs))));
        else
          for (int o = 0; o < outputs; ++o) y.push_back(draws.uniform(next++, -1.0F, 1.0F));
    };
    examples(support, all.support_x, all.support_y);
    examples(query, all.query_x, all.query_y);
  }
  return all;
}

inline Model sinusoid_model() {
  return {features(1),
          {Linear{.outputs = 12}, Relu{}, Linear{.outputs = 9}, Tanh{}, Linear{.outputs = 1}},
          MeanSquaredError{}};
}
inline Model tanh_model() {
  return {features(3),
          {Linear{.outputs = 7}, Tanh{}, Linear{.outputs = 5}, Tanh{}, Linear{.outputs = 3}},
          SoftmaxCrossEntropy{}};
}
inline Model conv_model(Statistics statistics = Statistics::batch, int filters = 8) {
  Model m{image(12, 12, 1), {}, SoftmaxCrossEntropy{}};
  for (int i = 0; i < 3; ++i) {
    m.layers.push_back(Conv2d{.filters = filters, .kernel = 3, .stride = 2, .padding = 1, .bias = false});
    m.layers.push_back(BatchNorm{.statistics = statistics});
    m.layers.push_back(Relu{});
  }
  m.layers.push_back(GlobalAveragePool{});
  m.layers.push_back(Linear{.outputs = 3});
  return m;
}

}  // namespace cumeta::testing
