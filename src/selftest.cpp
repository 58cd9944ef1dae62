// SPDX-License-Identifier: Apache-2.0
// Closed forms that every device must give: w = [2, 3, 5], one linear layer without bias, squared error.
//   A: support [1,2,3] -> 0, rate 1/4, 1 step, query [4,5,6] -> 0          B: the two sets exchanged
//   C: support [1,2,3] -> 0, rate 1/2, 3 steps, query [4,5,6] -> -115499.5 (so that dL/dy = 1)
// In A second and first order differ in sign; all figures are exact in float32.
#include "cumeta/selftest.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cumeta/learner.h"
#include "src/learner_impl.h"
#include "src/selftest_rows.h"

namespace cumeta {
namespace {

using Numbers = std::vector<double>;

struct ClosedForm {
  const char* name;
  std::vector<float> support_x, query_x;
  float query_y;
  double rate;
  int steps;
  Numbers support_loss, adapted;
  double query_loss;
  Numbers second, first;
};

const ClosedForm closed_forms[] = {
    {"A",
     {1, 2, 3},
     {4, 5, 6},
     0,
     0.25,
     1,
     {529},
     {-9.5, -20, -29.5},
     99225,
     {7560, 17010, 26460},
     {-2520, -3150, -3780}},
    {"B",
     {4, 5, 6},
     {1, 2, 3},
     0,
     0.25,
     1,
     {2809},
     {-104, -129.5, -154},
     680625,
     {103950, 128700, 153450},
     {-1650, -3300, -4950}},
    {"C",
     {1, 2, 3},
     {4, 5, 6},
     -115499.5F,
     0.5,
     3,
     {529, 89401, 15108769},
     {-3609, -7219, -10828},
     0.25,
     {-5020, -10043, -15066},
     {4, 5, 6}},
};
const Numbers start = {2, 3, 5};

/// Largest difference over the largest expected number; NaN or a wrong count is infinite.
double relative_error(const Numbers& actual, const Numbers& expected) {
  if (actual.size() != expected.size()) return HUGE_VAL;
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double d = std::fabs(actual[i] - expected[i]);
    if (!std::isfinite(d)) return HUGE_VAL;
    difference = std::max(difference, d), size = std::max(size, std::fabs(expected[i]));
  }
  return difference / std::max(size, 1e-300);
}

class ClosedFormTest {
 public:
  ClosedFormTest(const Options& options, std::vector<SelftestRow>& rows) : options_(options), rows_(rows) {}

  void run(const ClosedForm& form) {
    const Maml maml{.steps = form.steps, .rate = form.rate};
    check_unrolled(form, maml, form.second);
    check_unrolled(form, fomaml(form.steps, form.rate), form.first);
    check_unrolled(form, Anil{.steps = form.steps, .rate = form.rate, .first_adapted_layer = 0}, form.second);
    check_unrolled(form, MetaSgd{.steps = form.steps, .rate = form.rate}, form.second);
    Numbers moved;
    for (std::size_t i = 0; i < 3; ++i) moved.push_back(start[i] - form.adapted[i]);
    expect(form, "reptile", "direction", gradient(form, Reptile{.steps = form.steps, .rate = form.rate}).gradient,
           moved);
  }

  /// dL/d rate of case A: per parameter (Meta-SGD), and one rate for all.
  void run_rates(const ClosedForm& form) {
    expect(form, "meta_sgd", "rates gradient", gradient(form, MetaSgd{.steps = 1, .rate = form.rate}).rate_gradient,
           {115920, 289800, 521640});
    expect(form, "maml", "learned rate's gradient",
           gradient(form, Maml{.steps = 1, .rate = form.rate, .rate_learned = true}).rate_gradient,
           {927360, 927360, 927360});
  }

 private:
  MetaGradient gradient(const ClosedForm& form, const Algorithm& algorithm) const {
    const Model model{
        .input = features(3), .layers = {Linear{.outputs = 1, .bias = false}}, .loss = MeanSquaredError{}};
    Learner learner(model, algorithm, options_);
    learner.set_parameters(start);
    const std::vector<float> zero = {0}, query_y = {form.query_y};
    return learner.meta_gradient({1, {1, form.support_x, zero}, {1, form.query_x, query_y}});
  }

  void check_unrolled(const ClosedForm& form, const Algorithm& algorithm, const Numbers& expected) {
    const MetaGradient result = gradient(form, algorithm);
    const std::string name = name_of(algorithm);
    expect(form, name, "meta-gradient", result.gradient, expected);
    expect(form, name, "adapted parameters", result.adapted, form.adapted);
    expect(form, name, "support losses", result.support_loss, form.support_loss);
    expect(form, name, "query loss", result.query_loss, {form.query_loss});
  }

  void expect(const ClosedForm& form, const std::string& algorithm, const char* what, const Numbers& actual,
              const Numbers& expected) {
    const double error = relative_error(actual, expected), allowed = 1e-6;
    rows_.push_back(
        {"closed form", fmt::format("{} {} {}", form.name, algorithm, what), error, allowed, error <= allowed});
  }

  const Options& options_;
  std::vector<SelftestRow>& rows_;
};

}  // namespace

void test_closed_forms(const Options& options, std::vector<SelftestRow>& rows) {
  ClosedFormTest test(options, rows);
  for (const ClosedForm& form : closed_forms) test.run(form);
  test.run_rates(closed_forms[0]);
}

std::vector<SelftestRow> selftest(Device device, int ordinal, std::uint64_t seed) {
  Options options;
  options.device = device, options.ordinal = ordinal;
  std::vector<SelftestRow> rows;
  test_closed_forms(options, rows);
  const std::shared_ptr<Backend> backend = open_backend(options);
  test_layers(*backend, seed, rows);
  return rows;
}

}  // namespace cumeta
