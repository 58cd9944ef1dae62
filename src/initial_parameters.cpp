// SPDX-License-Identifier: Apache-2.0
// Initial values: every array has its own stream of draws, so that adding a layer changes no other.
#include <cmath>

#include "kernels/tools/philox.h"
#include "src/parameters.h"

namespace cumeta {

namespace {

void draw(const ParameterArray& a, std::uint64_t seed, std::uint32_t stream, std::span<double> out) {
  Draws draws(seed, Purpose::initial_values, 0, stream);
  const double scale = a.initializer.scale;
  std::uint32_t next = 0;
  switch (a.initializer.kind) {
    case Initializer::Kind::zeros:
      for (double& v : out) v = a.constant;
      return;
    case Initializer::Kind::glorot_uniform: {
      const double limit = scale * std::sqrt(6.0 / (a.fan_in + a.fan_out));
      for (double& v : out) v = limit * (2 * draws.uniform_double(next++) - 1);
      return;
    }
    case Initializer::Kind::he_normal: {
      const double deviation = scale * std::sqrt(2.0 / a.fan_in);
      for (double& v : out) v = deviation * draws.normal(next++);
      return;
    }
    case Initializer::Kind::normal:
      for (double& v : out) v = scale * draws.normal(next++);
      return;
    case Initializer::Kind::truncated_normal:
      for (double& v : out) {
        double z = draws.normal(next++);
        while (std::fabs(z) > 2) z = draws.normal(next++);
        v = scale * z;
      }
      return;
  }
}

}  // namespace

std::vector<double> initial_parameters(const Model& model, std::uint64_t seed) {
  std::vector<double> flat(static_cast<std::size_t>(parameter_count(model)));
  std::uint32_t stream = 0;
  for (const ParameterArray& a : parameter_arrays(model)) {
    const auto part = std::span(flat).subspan(static_cast<std::size_t>(a.parameter.offset),
                                              static_cast<std::size_t>(a.parameter.size));
    draw(a, seed, stream++, part);
    for (double& v : part) v = static_cast<double>(static_cast<float>(v));  // every device starts from the same numbers
  }
  return flat;
}

}  // namespace cumeta
