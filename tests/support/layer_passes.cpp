// SPDX-License-Identifier: Apache-2.0
#include "tests/support/layer_passes.h"

#include <gtest/gtest.h>

#include <random>
#include <utility>

#include "kernels/all_layers.h"
#include "tests/support/compare.h"
#include "tests/support/guarded_array.h"

namespace cumeta::testing {
namespace {

std::vector<Role> inputs_of(Pass pass) {
  switch (pass) {
    case Pass::forward:
      return {kW, kX};
    case Pass::backward:
      return {kW, kX, kY, kR, kDy};
    case Pass::tangent_forward:
      return {kW, kX, kY, kR, kRw, kRx};
    default:
      return {kW, kX, kY, kR, kDy, kDx, kRw, kRx, kRy, kRr, kRdy};
  }
}
/// Of a record: numbers [first, first + 2 channels) are [mean | 1/sigma], and given when no rows are counted.
struct GivenStatistics {
  std::int64_t first = 0, channels = 0;
};
GivenStatistics given_statistics(const LayerCase& c) {
  if (c.geometry.statistics_rows != 0) return {};
  if (std::holds_alternative<BatchNorm>(c.stage)) return {0, c.geometry.input.channels};
  if (const auto* block = std::get_if<ConvBlock>(&c.stage))
    return {std::int64_t{c.geometry.examples} * output(block->convolution, c.geometry.input).size(),
            block->convolution.filters};
  return {};
}
/// All of it: then forward writes none.
bool record_is_given(const LayerCase& c) { return 2 * given_statistics(c).channels == role_size(c, kR); }

/// Uniform in +-[0.1, 1]; or whole numbers in [-3, 3]; or 2.9 and 3.1.
class Draw {
 public:
  Draw(Fill fill, unsigned seed) : fill_(fill), engine_(seed) {}
  double operator()() {
    if (fill_ == Fill::integers) return static_cast<double>(engine_() % 7) - 3;
    if (fill_ == Fill::far) return static_cast<float>(engine_() & 1 ? 3.1 : 2.9);
    const double size = 0.1 + 0.9 * (engine_() >> 8) * 0x1p-24;
    return static_cast<float>(engine_() & 1 ? size : -size);
  }

 private:
  Fill fill_;
  std::mt19937 engine_;
};

}  // namespace

std::int64_t role_size(const LayerCase& c, Role role) {
  const Geometry& g = c.geometry;
  return std::visit(
      [&](const auto& l) -> std::int64_t {
        switch (role) {
          case kW:
          case kDw:
          case kRw:
          case kRdw:
            return parameters(l, g.input);
          case kX:
          case kDx:
          case kRx:
          case kRdx:
            return std::int64_t{g.examples} * g.input.size();
          case kY:
          case kDy:
          case kRy:
          case kRdy:
            return std::int64_t{g.examples} * output(l, g.input).size();
          case kR:
            return record(l, g);
          case kRr:
            return tangent_record(l, g);
          default:
            return 0;
        }
      },
      c.stage);
}
int role_rows(const LayerCase& c, Role role) { return role == kW && c.shared_w ? 1 : c.tasks; }

bool wanted(const LayerCase& c, Role role) {
  if (role_size(c, role) == 0) return false;
  switch (role) {
    case kRw:
      return !c.no_Rw;
    case kRx:
      return !c.no_Rx;
    case kDx:
      return !c.no_dx;
    case kRdx:
      return !c.no_dx;
    case kDw:
    case kRdw:
      return !c.no_dw;
    default:
      return true;
  }
}

std::vector<Role> outputs_of(const LayerCase& c, Pass pass) {
  std::vector<Role> all, out;
  switch (pass) {
    case Pass::forward:
      all = {kY, kR};
      break;
    case Pass::backward:
      all = {kDx, kDw};
      break;
    case Pass::tangent_forward:
      all = {kRy, kRr};
      break;
    default:
      all = {kRdx, kRdw};
  }
  for (const Role role : all)
    if (wanted(c, role) && !(role == kR && record_is_given(c))) out.push_back(role);
  return out;
}

HostArrays draw_inputs(const LayerCase& c, unsigned seed) {
  HostArrays host;
  for (const Role role : {kW, kX, kDy, kRw, kRx, kRdy}) {
    if (!wanted(c, role)) continue;
    Draw draw(c.fill == Fill::far && role != kX ? Fill::random : c.fill, seed * 100 + static_cast<unsigned>(role));
    host[role].resize(static_cast<std::size_t>(role_rows(c, role) * role_size(c, role)));
    for (double& number : host[role]) number = draw();
  }
  if (const GivenStatistics given = given_statistics(c); given.channels > 0) {
    Draw draw(Fill::random, seed * 100 + kR);
    const std::int64_t size = role_size(c, kR);
    host[kR].assign(static_cast<std::size_t>(size * c.tasks), std::nan(""));
    for (int task = 0; task < c.tasks; ++task)
      for (std::int64_t i = 0; i < 2 * given.channels; ++i)
        host[kR][static_cast<std::size_t>(task * size + given.first + i)] =
            i < given.channels ? draw() : static_cast<float>(1.5 + draw());  // 1/sigma is positive
  }
  return host;
}

std::vector<double> as_float(std::vector<double> numbers) {
  for (double& number : numbers) number = static_cast<float>(number);
  return numbers;
}

HostArrays run_pass(TestDevice device, Backend& backend, const LayerCase& c, Pass pass, const HostArrays& from) {
  std::vector<Role> inputs = inputs_of(pass);
  const bool given = pass == Pass::forward && given_statistics(c).channels > 0;
  if (given && record_is_given(c)) inputs.push_back(kR);
  const std::vector<Role> outputs = outputs_of(c, pass);

  std::array<GuardedArray, kRoles> memory;
  std::array<Array, kRoles> a{};
  const auto place = [&](Role role) {
    memory[role] = GuardedArray(backend, role_rows(c, role), role_size(c, role));
    a[role] = role_rows(c, role) == 1 && c.tasks > 1 ? memory[role].shared(c.tasks) : memory[role].array();
  };
  for (const Role role : inputs) {
    if (!wanted(c, role)) continue;
    place(role);
    memory[role].fill_rows(from[role]);
  }
  for (const Role role : outputs) place(role);
  if (given && !record_is_given(c)) memory[kR].fill_rows(from[kR]);

  const std::int64_t scratch_size = scratch_numbers(c.stage, c.geometry, device);
  GuardedArray scratch_memory;
  Array scratch;
  if (std::holds_alternative<Vendor<Conv2d>>(c.stage)) {  // one block for all tasks
    scratch_memory = GuardedArray(backend, 1, c.tasks * scratch_size);
    scratch = scratch_memory.array();
    scratch.tasks = c.tasks, scratch.size = scratch.stride = scratch_size;
  } else if (scratch_size > 0) {
    scratch_memory = GuardedArray(backend, c.tasks, scratch_size);
    scratch = scratch_memory.array();
  }

  Array y = a[kY];
  const Values v{a[kW], a[kX], y, a[kR]}, R{a[kRw], a[kRx], a[kRy], a[kRr]};
  const Gradients d{a[kDy], a[kDx], a[kDw]}, Rd{a[kRdy], a[kRdx], a[kRdw]};
  const auto passes = backend.lane(0).bind(c.stage, c.geometry, scratch);
  switch (pass) {
    case Pass::forward:
      passes->forward(v);
      break;
    case Pass::backward:
      passes->backward(v, d);
      break;
    case Pass::tangent_forward:
      passes->tangent_forward(v, R);
      break;
    default:
      passes->tangent_backward(v, d, R, Rd);
  }

  HostArrays out;
  for (const Role role : inputs) {
    if (!wanted(c, role)) continue;
    EXPECT_TRUE(same_bits(std::string("input ") + kRoleNames[role], from[role], memory[role].rows(kRoleNames[role])));
  }
  for (const Role role : outputs) {
    out[role] = memory[role].rows(kRoleNames[role]);
    for (std::size_t i = 0; i < out[role].size(); ++i)
      if (std::isnan(out[role][i])) {
        ADD_FAILURE() << kRoleNames[role] << ": NaN or not written at " << i << " of " << out[role].size();
        break;
      }
  }
  if (scratch) scratch_memory.rows("scratch");
  return out;
}

Expected run_reference(const LayerCase& c, unsigned seed, bool round) {
  std::string why;
  Backend& backend = *open(TestDevice::reference, why);
  Expected all;
  all.inputs = draw_inputs(c, seed);
  for (const Pass pass : kLayerPasses) {
    HostArrays results = run_pass(TestDevice::reference, backend, c, pass, all.inputs);
    for (const Role role : outputs_of(c, pass)) {
      all.inputs[role] = round ? as_float(results[role]) : results[role];
      all.expected[role] = std::move(results[role]);
    }
  }
  return all;
}

HostArrays one_task(const LayerCase& c, const HostArrays& all, int task) {
  HostArrays one;
  for (int role = 0; role < kRoles; ++role) {
    const auto& from = all[static_cast<std::size_t>(role)];
    if (from.empty()) continue;
    const std::int64_t size = role_size(c, static_cast<Role>(role));
    const std::int64_t at = role_rows(c, static_cast<Role>(role)) == 1 ? 0 : task * size;
    one[static_cast<std::size_t>(role)].assign(from.begin() + at, from.begin() + at + size);
  }
  return one;
}

}  // namespace cumeta::testing
