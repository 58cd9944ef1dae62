// SPDX-License-Identifier: Apache-2.0
// The small-model program against the recursion of its header, done in double with Hessian products by dual numbers.
#include "kernels/programs/mlp_program.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "kernels/episode_tables.h"
#include "kernels/tools/dual.h"
#include "kernels/tools/episode_draws.h"
#include "tests/support/devices.h"
#include "tests/support/test_tolerances.h"

namespace cumeta::testing {
namespace {

using std::log, std::exp, std::tanh;

/// Mean loss of rows [first, first + count), its gradient (times factor) and hits, in any number type.
template <class S>
struct Result {
  S loss = 0;
  std::vector<S> gradient;
  int hits = 0;
};
template <class S>
Result<S> mlp_gradient(const MlpProgram& p, const std::vector<S>& w, const double* x, const double* t, int count,
                       double factor) {
  Result<S> result;
  result.gradient.assign(static_cast<std::size_t>(p.parameters), S(0));
  const int outputs = p.outputs();
  for (int e = 0; e < count; ++e) {
    std::vector<std::vector<S>> y{{x + e * p.layer[0].inputs, x + (e + 1) * p.layer[0].inputs}};
    std::vector<std::vector<S>> z;
    const auto weight = [&](const MlpLayer& l, int i, int o) {
      return static_cast<std::size_t>(l.offset + i * l.outputs + o);
    };
    for (int k = 0; k < p.layers; ++k) {
      const MlpLayer& l = p.layer[k];
      std::vector<S> out;
      for (int o = 0; o < l.outputs; ++o) {
        S sum = l.bias ? w[weight(l, l.inputs, o)] : S(0);
        for (int i = 0; i < l.inputs; ++i) sum += w[weight(l, i, o)] * y.back()[static_cast<std::size_t>(i)];
        out.push_back(sum);
      }
      z.push_back(out);
      for (S& number : out)
        number = l.activation == Activation::tanh         ? tanh(number)
                 : value_of(number) > 0                   ? number
                 : l.activation == Activation::relu       ? S(0)
                 : l.activation == Activation::leaky_relu ? S(l.slope) * number
                                                          : number;
      y.push_back(out);
    }
    std::vector<S> d(static_cast<std::size_t>(outputs));
    const auto& scores = y.back();
    if (p.cross_entropy) {
      const auto label = static_cast<std::size_t>(t[e]);
      std::size_t best = 0;
      for (std::size_t i = 1; i < scores.size(); ++i)
        if (value_of(scores[i]) > value_of(scores[best])) best = i;
      result.hits += best == label;
      S sum = 0;
      for (const S& score : scores) sum += exp(score - S(value_of(scores[best])));
      result.loss += (log(sum) - (scores[label] - S(value_of(scores[best])))) / S(count);
      for (std::size_t i = 0; i < scores.size(); ++i)
        d[i] = S(factor / count) * (exp(scores[i] - S(value_of(scores[best]))) / sum - S(i == label ? 1 : 0));
    } else {
      for (std::size_t i = 0; i < scores.size(); ++i) {
        const S error = scores[i] - S(t[static_cast<std::size_t>(e * outputs) + i]);
        result.loss += error * error / S(double(count) * outputs);
        d[i] = S(2 * factor / (double(count) * outputs)) * error;
      }
    }
    for (int k = p.layers - 1; k >= 0; --k) {
      const MlpLayer& l = p.layer[k];
      const auto at = static_cast<std::size_t>(k);
      for (std::size_t o = 0; o < d.size(); ++o)
        d[o] = l.activation == Activation::tanh         ? (S(1) - y[at + 1][o] * y[at + 1][o]) * d[o]
               : value_of(z[at][o]) > 0                 ? d[o]
               : l.activation == Activation::relu       ? S(0)
               : l.activation == Activation::leaky_relu ? S(l.slope) * d[o]
                                                        : d[o];
      std::vector<S> below(static_cast<std::size_t>(l.inputs), S(0));
      for (int o = 0; o < l.outputs; ++o) {
        const S dz = d[static_cast<std::size_t>(o)];
        if (l.bias) result.gradient[weight(l, l.inputs, o)] += dz;
        for (int i = 0; i < l.inputs; ++i) {
          result.gradient[weight(l, i, o)] += dz * y[at][static_cast<std::size_t>(i)];
          below[static_cast<std::size_t>(i)] += w[weight(l, i, o)] * dz;
        }
      }
      d = below;
    }
  }
  return result;
}

/// One task's row, and w[K].
struct TaskResult {
  std::vector<double> row, adapted;
};
TaskResult expected_task(const MlpProgram& p, const RowLayout& layout, const std::vector<double>& theta,
                         const std::vector<double>& rates, const double* x, const double* t) {
  const auto P = static_cast<std::size_t>(p.parameters);
  const auto rate = [&](int k) { return rates.data() + static_cast<std::size_t>(std::min(k, p.rate_rows - 1)) * P; };
  TaskResult result{std::vector<double>(static_cast<std::size_t>(layout.size())), {}};
  std::vector<std::vector<double>> w{theta}, g;
  for (int k = 0; k < p.steps; ++k) {
    const auto r = mlp_gradient<double>(p, w.back(), x, t, p.support, p.support_factor);
    result.row[static_cast<std::size_t>(layout.support_loss_at() + k)] = r.loss;
    g.push_back(r.gradient);
    std::vector<double> next = w.back();
    for (std::size_t i = 0; i < P; ++i) next[i] -= rate(k)[i] * r.gradient[i];
    w.push_back(next);
  }
  const auto query =
      mlp_gradient<double>(p, w.back(), x + p.support * p.layer[0].inputs, t + p.support * p.targets(), p.query, 1);
  result.row[static_cast<std::size_t>(layout.query_loss_at())] = query.loss;
  result.row[static_cast<std::size_t>(layout.hits_at())] = query.hits;
  result.adapted = w.back();
  std::vector<double> adjoint = query.gradient;
  for (int k = p.steps - 1; k >= 0; --k) {
    if (p.learned_rates)
      for (int layer = 0; layer < p.layers; ++layer) {
        const MlpLayer& l = p.layer[layer];
        for (int i = l.offset; l.adapted && i < l.offset + (l.inputs + l.bias) * l.outputs; ++i) {
          const auto at = static_cast<std::size_t>(i);
          result.row[static_cast<std::size_t>(std::min(k, p.rate_rows - 1) + 1) * P + at] -=
              g[static_cast<std::size_t>(k)][at] * adjoint[at];
        }
      }
    if (!p.second_order) continue;
    std::vector<Dual> moving(P);
    for (std::size_t i = 0; i < P; ++i) moving[i] = {w[static_cast<std::size_t>(k)][i], rate(k)[i] * adjoint[i]};
    const auto product = mlp_gradient<Dual>(p, moving, x, t, p.support, p.support_factor);
    for (std::size_t i = 0; i < P; ++i) adjoint[i] -= product.gradient[i].tangent;
  }
  std::copy(adjoint.begin(), adjoint.end(), result.row.begin());
  return result;
}

struct ProgramCase {
  std::string name;
  std::vector<Stage> stages;
  int inputs = 1;
  Loss loss = MeanSquaredError{};
  int support = 5, query = 7, steps = 1;
  bool second = true, learned = false, per_step = false;
  double rate = 0.05, factor = 1;
  int tasks = 3;
  int frozen_layer = -1;
  double confidence = 0;  // of classes: all labels are 0, whose last bias is raised by this
};
MlpProgram program_of(const ProgramCase& c) {
  MlpProgram p = *mlp_program_of(c.stages, features(c.inputs), c.loss);
  p.support = c.support, p.query = c.query, p.steps = c.steps;
  p.second_order = c.second, p.learned_rates = c.learned;
  p.rate_rows = c.per_step ? c.steps : 1;
  p.support_factor = static_cast<float>(c.factor);
  if (c.frozen_layer >= 0) p.layer[c.frozen_layer].adapted = 0;
  return p;
}

std::vector<ProgramCase> program_cases() {
  const std::vector<Stage> sinusoid{Linear{40}, Relu{}, Linear{40}, Relu{}, Linear{1}};
  const std::vector<Stage> bent{Linear{9}, Tanh{}, Linear{6, false}, LeakyRelu{0.1}, Linear{5}, Linear{3}};
  const std::vector<Stage> alone{Linear{4, false}};
  const SoftmaxCrossEntropy entropy;
  return {
      {"sinusoid", sinusoid, 1, MeanSquaredError{}, 10, 10},
      {"sinusoid_first_order", sinusoid, 1, MeanSquaredError{}, 5, 10, 2, false},
      {"sinusoid_steps", sinusoid, 1, MeanSquaredError{}, 10, 10, 3},
      {"joint", sinusoid, 1, MeanSquaredError{}, 5, 8, 0},
      {"bent", bent, 3, MeanSquaredError{}, 5, 7, 3, true, true, true, 0.2},
      {"bent_meta_sgd", bent, 3, MeanSquaredError{}, 6, 3, 2, true, true, false, 0.2, 3},
      {"bent_first_order_learned", bent, 3, MeanSquaredError{}, 5, 7, 3, false, true, true, 0.2},
      {"bent_frozen", bent, 3, MeanSquaredError{}, 5, 7, 2, true, true, false, 0.2, 1, 2, 1},
      {"classes", bent, 3, entropy, 5, 7, 2, true, false, false, 0.5},
      {"classes_one_example", bent, 5, entropy, 1, 1, 1, true, false, false, 0.5, 3},
      {"linear", alone, 3, entropy, 4, 9, 2, true, true, false, 0.5},
      {"classes_confident", bent, 3, entropy, 5, 7, 0, false, false, false, 0.5, 1, 3, -1, 12},
  };
}

class MlpPrograms : public ::testing::TestWithParam<TestDevice> {};

/// A case on a device: arrays with gaps between rows, run from a recording.
struct ProgramRun {
  ProgramRun(Backend& backend, const ProgramCase& c) : program(program_of(c)), backend_(backend) {
    std::mt19937 random(5);
    const auto numbers = [&](std::size_t count, float low, float high) {
      std::uniform_real_distribution<float> draw(low, high);
      std::vector<double> out(count);
      for (double& number : out) number = draw(random);
      return out;
    };
    const int rows = c.support + c.query;
    x = numbers(static_cast<std::size_t>(c.tasks * rows * c.inputs), -2, 2);
    t = numbers(static_cast<std::size_t>(c.tasks * rows * program.targets()), -1, 1);
    if (program.cross_entropy)
      for (double& label : t) label = std::floor((label + 1) / 2 * program.outputs() * 0.999);
    theta = numbers(static_cast<std::size_t>(program.parameters), -0.5F, 0.5F);
    rates = numbers(static_cast<std::size_t>(program.rate_rows * program.parameters), static_cast<float>(c.rate / 2),
                    static_cast<float>(c.rate));
    if (c.confidence != 0) {
      const MlpLayer& last = program.layer[program.layers - 1];
      theta[static_cast<std::size_t>(last.offset + last.inputs * last.outputs)] += c.confidence;
      std::fill(t.begin(), t.end(), 0.0);
    }
    if (c.frozen_layer >= 0) {
      const MlpLayer& l = program.layer[c.frozen_layer];
      for (int k = 0; k < program.rate_rows; ++k)
        std::fill_n(rates.begin() + k * program.parameters + l.offset, (l.inputs + l.bias) * l.outputs, 0.0);
    }
    layout.gradient = program.parameters * (1 + (c.learned ? program.rate_rows : 0));
    layout.steps = c.steps;
    arrays.layout = layout;
    arrays.x = array(c.tasks, rows * c.inputs, x), arrays.t = array(c.tasks, rows * program.targets(), t);
    arrays.theta = array(1, program.parameters, theta);
    arrays.rates = array(1, program.rate_rows * program.parameters, rates);
    arrays.row = array(c.tasks, layout.size(), {}), arrays.adapted = array(c.tasks, program.parameters, {});
  }
  std::vector<double> read(const Array& a) {
    std::vector<double> out(static_cast<std::size_t>(a.tasks * a.size));
    backend_.download(a, out);
    return out;
  }
  Array array(int tasks, std::int64_t size, const std::vector<double>& values, Number number = Number::float32) {
    memory_.push_back(backend_.allocate(static_cast<std::size_t>(tasks * (size + 1) * bytes_of(number))));
    const Array a{memory_.back().get(), tasks, size, size + 1, number};
    if (!values.empty()) backend_.upload(std::span<const double>(values), a);
    return a;
  }

  MlpProgram program;
  RowLayout layout;
  MlpArrays arrays;
  std::vector<double> x, t, theta, rates;

 private:
  Backend& backend_;
  std::vector<std::shared_ptr<std::byte>> memory_;
};

TEST_P(MlpPrograms, EqualTheRecursion) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  for (const ProgramCase& c : program_cases()) {
    SCOPED_TRACE(c.name);
    ProgramRun run(backend, c);
    if (GetParam() == TestDevice::cpu) GTEST_SKIP() << "the CPU runs no programs";
    ASSERT_TRUE(backend.runs_program(run.program)) << backend.name() << " runs no such program";
    const auto recording =
        backend.record([&] { backend.run_program(backend.lane(0), run.program, run.arrays, 0, {}); });
    recording->run();
    EXPECT_LE(recording->kernel_nodes(), 1);
    const std::vector<double> rows = run.read(run.arrays.row), adapted = run.read(run.arrays.adapted);
    const auto size = static_cast<std::size_t>(run.layout.size()), P = static_cast<std::size_t>(run.program.parameters);
    for (std::size_t task = 0; task < static_cast<std::size_t>(c.tasks); ++task) {
      const TaskResult e = expected_task(run.program, run.layout, run.theta, run.rates,
                                         run.x.data() + task * run.x.size() / static_cast<std::size_t>(c.tasks),
                                         run.t.data() + task * run.t.size() / static_cast<std::size_t>(c.tasks));
      double scale = 0;
      for (std::size_t i = 0; i < P; ++i) scale = std::max(scale, std::abs(e.row[i]));
      for (std::size_t i = 0; i < size; ++i)
        ASSERT_NEAR(rows[task * size + i], e.row[i],
                    kProgramTolerance * (i < P ? scale : std::max(kSmallestProgramLoss, std::abs(e.row[i]))))
            << "task " << task << " number " << i;
      for (std::size_t i = 0; i < P; ++i) ASSERT_NEAR(adapted[task * P + i], e.adapted[i], kProgramParameterTolerance);
    }
    recording->run();
    EXPECT_EQ(run.read(run.arrays.row), rows) << "other bits the second time";
  }
}

TEST_P(MlpPrograms, ScoresThatAreNoNumbersHitNothing) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  if (GetParam() == TestDevice::cpu) GTEST_SKIP() << "the CPU runs no programs";
  ProgramRun run(backend, program_cases().back());
  backend.lane(0).fill(run.arrays.theta, std::numeric_limits<double>::quiet_NaN());
  backend.run_program(backend.lane(0), run.program, run.arrays, 0, {});
  const std::vector<double> rows = run.read(run.arrays.row);
  EXPECT_EQ(rows[static_cast<std::size_t>(run.layout.hits_at())], 0);
  EXPECT_TRUE(std::isnan(rows[static_cast<std::size_t>(run.layout.query_loss_at())]));
}

TEST_P(MlpPrograms, DrawTheirSinusoids) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  const ProgramCase c = program_cases()[0];
  ProgramRun run(backend, c);
  if (GetParam() == TestDevice::cpu) GTEST_SKIP() << "the CPU runs no programs";
  ASSERT_TRUE(backend.draws_episodes() && backend.runs_program(run.program)) << backend.name();
  backend.open_episodes({9, Purpose::test, SinusoidEpisodes{{{0.1F, 5}, {0, 3}, {-5, 5}}, c.support + c.query}});
  ASSERT_TRUE(backend.program_draws(run.program));
  std::vector<double> numbers(kControlSize);
  numbers[kControlIteration] = 123;
  const Array control = run.array(1, kControlSize, numbers, Number::float64);
  backend.draw_episodes(backend.lane(0), run.arrays.x, run.arrays.t, 4, control);
  backend.run_program(backend.lane(0), run.program, run.arrays, 0, {});
  const std::vector<double> given = run.read(run.arrays.row);
  backend.lane(0).fill(run.arrays.x, 0), backend.lane(0).fill(run.arrays.t, 0), backend.lane(0).fill(run.arrays.row, 0);
  backend.run_program(backend.lane(0), run.program, run.arrays, 4, control);
  EXPECT_EQ(run.read(run.arrays.row), given);
}

TEST(MlpProgram, KnowsItsModels) {
  const auto is = [](std::vector<Stage> stages) {
    return mlp_program_of(stages, features(3), MeanSquaredError{}).has_value();
  };
  EXPECT_TRUE(is({Linear{2}}));
  EXPECT_TRUE(is({Linear{2}, Tanh{}, Linear{1}}));
  EXPECT_FALSE(is({}));
  EXPECT_FALSE(is({Linear{2}, Tanh{}}));
  EXPECT_FALSE(is({Relu{}, Linear{2}}));
  EXPECT_FALSE(is({Linear{2}, BatchNorm{}, Linear{1}}));
  EXPECT_FALSE(is({Linear{2}, Relu{}, Tanh{}, Linear{1}}));
  EXPECT_FALSE(is({Linear{2}, LeakyRelu{-0.1}, Linear{1}}));
  EXPECT_FALSE(is({Linear{50000}, Relu{}, Linear{50000}}));
  MlpProgram huge =
      *mlp_program_of(std::vector<Stage>{Linear{5000}, Relu{}, Linear{5000}}, features(5000), MeanSquaredError{});
  huge.support = huge.query = 5;
  EXPECT_GT(mlp_shared_bytes(huge), 1 << 20);
}

std::string device_name(const ::testing::TestParamInfo<TestDevice>& info) { return name(info.param); }
INSTANTIATE_TEST_SUITE_P(Devices, MlpPrograms, ::testing::ValuesIn(judged_devices()), device_name);

}  // namespace
}  // namespace cumeta::testing
