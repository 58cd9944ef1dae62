// SPDX-License-Identifier: Apache-2.0
// The reference's fused block equals its four layers run one by one, to the bit, in all four passes.
#include <gtest/gtest.h>

#include "kernels/backend_reference.h"
#include "kernels/layers/conv_block.h"
#include "tests/support/compare.h"
#include "tests/support/guarded_array.h"
#include "tests/support/layer_passes.h"

namespace cumeta::testing {
namespace {

constexpr int kTasks = 3;

struct BlockCase {
  std::string name;
  ConvBlock block;
  Geometry geometry;
  bool no_Rx = false, no_Rw = false, shared_w = false;
};

/// One layer of the chain as a case of its own, with the arrays of all its passes.
struct Link {
  LayerCase layer;
  HostArrays arrays;
};

Backend& reference() {
  std::string why;
  return *open(TestDevice::reference, why);
}
void run(Link& link, Pass pass) {
  HostArrays out = run_pass(TestDevice::reference, reference(), link.layer, pass, link.arrays);
  for (const Role role : outputs_of(link.layer, pass)) link.arrays[role] = out[role];
}

std::vector<Link> links_of(const BlockCase& c) {
  const Geometry inner = inner_geometry(c.block, c.geometry);
  std::vector<Stage> stages{c.block.convolution, c.block.norm, Relu{}};
  if (c.block.pooled) stages.push_back(c.block.pool);
  std::vector<Link> links;
  for (const Stage& stage : stages) {
    LayerCase layer{.name = c.name, .stage = stage, .geometry = links.empty() ? c.geometry : inner, .tasks = kTasks};
    layer.shared_w = c.shared_w;
    layer.no_Rw = c.no_Rw;
    layer.no_Rx = links.empty() && c.no_Rx;
    links.push_back({layer, draw_inputs(layer, 50 + static_cast<unsigned>(links.size()))});
  }
  return links;
}

/// The four layers one by one; every link keeps its arrays.
std::vector<Link> run_composed(const BlockCase& c) {
  std::vector<Link> links = links_of(c);
  const auto last = links.size() - 1;
  for (std::size_t k = 0; k <= last; ++k) {
    if (k > 0) links[k].arrays[kX] = links[k - 1].arrays[kY];
    run(links[k], Pass::forward);
  }
  for (std::size_t k = last + 1; k-- > 0;) {
    if (k < last) links[k].arrays[kDy] = links[k + 1].arrays[kDx];
    run(links[k], Pass::backward);
  }
  for (std::size_t k = 0; k <= last; ++k) {
    if (k > 0) links[k].arrays[kRx] = links[k - 1].arrays[kRy];
    run(links[k], Pass::tangent_forward);
  }
  for (std::size_t k = last + 1; k-- > 0;) {
    if (k < last) links[k].arrays[kRdy] = links[k + 1].arrays[kRdx];
    run(links[k], Pass::tangent_backward);
  }
  return links;
}

/// The rows of several arrays side by side.
std::vector<double> beside(const std::vector<std::vector<double>>& parts, int rows = kTasks) {
  std::vector<double> out;
  for (int row = 0; row < rows; ++row)
    for (const auto& part : parts) {
      const auto size = static_cast<std::ptrdiff_t>(part.size()) / rows;
      out.insert(out.end(), part.begin() + row * size, part.begin() + (row + 1) * size);
    }
  return out;
}

void expect_block_equals_chain(const BlockCase& c) {
  const std::vector<Link> links = run_composed(c);
  const HostArrays &convolution = links[0].arrays, &norm = links[1].arrays, &last = links.back().arrays;
  const int w_rows = c.shared_w ? 1 : kTasks;
  const std::vector<double> none, winners = c.block.pooled ? last[kR] : none;

  const auto place = [&](const std::vector<double>& values, int rows) {
    GuardedArray a;
    if (values.empty()) return a;
    a = GuardedArray(reference(), rows, static_cast<std::int64_t>(values.size()) / rows);
    a.fill_rows(values);
    return a;
  };
  const auto unwritten = [&](const std::vector<double>& like) {
    return place(std::vector<double>(like.size(), std::numeric_limits<double>::quiet_NaN()), kTasks);
  };
  const GuardedArray w = place(beside({convolution[kW], norm[kW]}, w_rows), w_rows), x = place(convolution[kX], kTasks),
                     dy = place(last[kDy], kTasks), Rx = place(convolution[kRx], kTasks),
                     Rw = place(beside({convolution[kRw], norm[kRw]}), kTasks), Rdy = place(last[kRdy], kTasks);
  const std::vector<double> r = beside({convolution[kY], norm[kR], winners}),
                            Rr = beside({convolution[kRy], norm[kRr]}), dw = beside({convolution[kDw], norm[kDw]}),
                            Rdw = beside({convolution[kRdw], norm[kRdw]});
  GuardedArray y = unwritten(last[kY]), record_array = unwritten(r), dx = unwritten(convolution[kDx]),
               dws = unwritten(dw), Ry = unwritten(last[kRy]), Rrs = unwritten(Rr), Rdx = unwritten(convolution[kRdx]),
               Rdws = unwritten(Rdw);
  if (c.geometry.statistics_rows == 0)  // the statistics are given; z and the winners are not
    record_array.fill_rows(beside({std::vector<double>(convolution[kY].size(), 0.0), norm[kR], winners}));
  const auto array = [](const GuardedArray& a, bool there = true) { return there ? a.array() : Array{}; };

  GuardedArray room(reference(), kTasks, scratch(c.block, c.geometry, OnReference{}));
  auto& lane = static_cast<ReferenceLane&>(reference().lane(0));
  const auto passes = bind(c.block, c.geometry, room.array(), lane);
  const Values v{c.shared_w ? w.shared(kTasks) : w.array(), x.array(), y.array(), record_array.array()};
  const Values R{array(Rw, !c.no_Rw), array(Rx, !c.no_Rx), Ry.array(), Rrs.array()};
  const Gradients d{dy.array(), dx.array(), dws.array()}, Rd{Rdy.array(), Rdx.array(), Rdws.array()};
  passes->forward(v);
  EXPECT_TRUE(same_bits("y", last[kY], y.rows("y")));
  EXPECT_TRUE(same_bits("r", r, record_array.rows("r")));
  passes->backward(v, d);
  EXPECT_TRUE(same_bits("dx", convolution[kDx], dx.rows("dx")));
  EXPECT_TRUE(same_bits("dw", dw, dws.rows("dw")));
  passes->tangent_forward(v, R);
  EXPECT_TRUE(same_bits("Ry", last[kRy], Ry.rows("Ry")));
  EXPECT_TRUE(same_bits("Rr", Rr, Rrs.rows("Rr")));
  passes->tangent_backward(v, d, R, Rd);
  EXPECT_TRUE(same_bits("Rdx", convolution[kRdx], Rdx.rows("Rdx")));
  EXPECT_TRUE(same_bits("Rdw", Rdw, Rdws.rows("Rdw")));
  EXPECT_TRUE(same_bits("r after all passes", r, record_array.rows("r")));
  room.rows("scratch");
}

TEST(ConvBlockReference, EqualsItsLayersOneByOne) {
  const Conv2d plain{.filters = 4, .kernel = 3, .stride = 1, .padding = 1},
      strided{.filters = 5, .kernel = 3, .stride = 2, .padding = 1};
  const Conv2d without_bias{.filters = 3, .kernel = 3, .stride = 1, .padding = 0, .bias = false};
  const Geometry batch{image(6, 7, 2), 4, 4}, support{image(6, 7, 2), 5, 2}, given{image(6, 7, 2), 3, 0};
  for (const bool pooled : {false, true})
    for (const Geometry& g : {batch, support, given})
      for (const Conv2d& convolution : {plain, strided, without_bias})
        for (const bool affine : {true, false}) {
          BlockCase c{.name = "block",
                      .block = {convolution, BatchNorm{.scale = affine, .shift = affine}, pooled, {}},
                      .geometry = g};
          SCOPED_TRACE("pooled " + std::to_string(pooled) + " statistics " + std::to_string(g.statistics_rows) +
                       " filters " + std::to_string(convolution.filters) + " affine " + std::to_string(affine));
          expect_block_equals_chain(c);
          c.no_Rx = true, c.shared_w = true;
          expect_block_equals_chain(c);
          c.no_Rx = false, c.no_Rw = true;
          expect_block_equals_chain(c);
        }
}

}  // namespace
}  // namespace cumeta::testing
