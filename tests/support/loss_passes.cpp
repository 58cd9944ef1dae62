// SPDX-License-Identifier: Apache-2.0
#include "tests/support/loss_passes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "kernels/all_layers.h"
#include "tests/support/compare.h"
#include "tests/support/guarded_array.h"

namespace cumeta::testing {
namespace {

std::int64_t x_size(const LossCase& c) { return std::int64_t{c.geometry.examples} * c.geometry.outputs; }
std::int64_t t_size(const LossCase& c) {
  return std::int64_t{c.geometry.examples} *
         std::visit([&](const auto& l) { return targets(l, c.geometry.outputs); }, c.loss);
}

}  // namespace

LossArrays draw_loss_inputs(const LossCase& c, unsigned seed) {
  std::mt19937 engine(seed);
  const auto uniform = [&](double size) { return static_cast<float>(size * ((engine() >> 8) * 0x1p-23 - 1)); };
  LossArrays host;
  for (int i = 0; i < c.tasks * x_size(c); ++i) {
    host.x.push_back(uniform(c.spread));
    host.Rx.push_back(uniform(1));
  }
  // Two equal outputs in every other example, one of them the largest: a hit is the first of them.
  const int outputs = c.geometry.outputs;
  for (int e = 0; e < c.tasks * c.geometry.examples && outputs > 1; e += 2)
    host.x[static_cast<std::size_t>(e * outputs + outputs - 1)] = host.x[static_cast<std::size_t>(e * outputs)] =
        static_cast<float>(c.spread);
  for (int i = 0; i < c.tasks * t_size(c); ++i)
    host.t.push_back(std::holds_alternative<SoftmaxCrossEntropy>(c.loss)
                         ? static_cast<double>(engine() % static_cast<unsigned>(outputs))
                         : uniform(1));
  if (c.confidence != 0)
    for (std::size_t row = 0; row < host.t.size(); ++row) {
      const auto scores = host.x.begin() + static_cast<std::ptrdiff_t>(row) * outputs;
      double& right = scores[static_cast<std::ptrdiff_t>(host.t[row])];
      right = -c.spread;
      right = static_cast<float>(*std::max_element(scores, scores + outputs) + c.confidence);
    }
  return host;
}

LossArrays run_loss(Backend& backend, const LossCase& c, const LossArrays& from) {
  GuardedArray x(backend, c.tasks, x_size(c)), t(backend, c.tasks, t_size(c)), Rx(backend, c.tasks, x_size(c)),
      loss(backend, c.tasks, 1), hits(backend, c.tasks, 1), dx(backend, c.tasks, x_size(c)),
      Rdx(backend, c.tasks, x_size(c));
  x.fill_rows(from.x);
  t.fill_rows(from.t);
  Rx.fill_rows(from.Rx);
  const auto passes = backend.lane(0).bind(c.loss, c.geometry);
  passes->forward_backward(x.array(), t.array(), loss.array(), c.no_hits ? Array{} : hits.array(),
                           c.no_dx ? Array{} : dx.array());
  passes->tangent_backward(x.array(), t.array(), Rx.array(), Rdx.array());

  EXPECT_TRUE(same_bits("input x", from.x, x.rows("x")));
  EXPECT_TRUE(same_bits("input t", from.t, t.rows("t")));
  EXPECT_TRUE(same_bits("input Rx", from.Rx, Rx.rows("Rx")));
  LossArrays out;
  out.loss = loss.rows("loss");
  if (!c.no_hits) out.hits = hits.rows("hits");
  if (!c.no_dx) out.dx = dx.rows("dx");
  out.Rdx = Rdx.rows("Rdx");
  for (const auto* numbers : {&out.loss, &out.hits, &out.dx, &out.Rdx})
    for (const double number : *numbers) {
      if (!std::isnan(number)) continue;
      ADD_FAILURE() << "an output of the loss is NaN or not written";
      break;
    }
  return out;
}

LossArrays one_task(const LossCase& c, const LossArrays& all, int task) {
  const auto part = [&](const std::vector<double>& from) {
    const auto size = static_cast<std::ptrdiff_t>(from.size()) / c.tasks;
    return std::vector<double>(from.begin() + task * size, from.begin() + (task + 1) * size);
  };
  return {part(all.x), part(all.t), part(all.Rx), part(all.loss), part(all.hits), part(all.dx), part(all.Rdx)};
}

}  // namespace cumeta::testing
