// SPDX-License-Identifier: Apache-2.0
// A device's algebra, memory, chunks and recordings against the formulas of kernels/backend.h, on every device.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <mutex>
#include <random>
#include <set>
#include <stdexcept>

#include "tests/support/compare.h"
#include "tests/support/devices.h"
#include "tests/support/guarded_array.h"
#include "tests/support/test_tolerances.h"

namespace cumeta::testing {
namespace {

constexpr int kTasks = 5;

std::vector<double> draw(int count, unsigned seed, double low = -2, double high = 2) {
  std::mt19937 engine(seed);
  std::vector<double> out;
  for (int i = 0; i < count; ++i) out.push_back(static_cast<float>(low + (high - low) * ((engine() >> 8) * 0x1p-24)));
  return out;
}

std::vector<TestDevice> all_devices() {
  std::vector<TestDevice> all = judged_devices();
  all.insert(all.begin(), TestDevice::reference);
  return all;
}

class BackendTest : public ::testing::TestWithParam<TestDevice> {};
INSTANTIATE_TEST_SUITE_P(, BackendTest, ::testing::ValuesIn(all_devices()),
                         [](const auto& instance) { return name(instance.param); });

/// out, a, b, c of one call: the operation on arrays and its formula on numbers.
struct Operation {
  const char* what;
  std::function<void(Lane&, Array out, Array a, Array b, Array c)> on_arrays;
  std::function<double(double out, double a, double b, double c)> on_numbers;
};
const Operation kOperations[] = {
    {"fill", [](Lane& l, Array o, Array, Array, Array) { l.fill(o, 0.25); },
     [](double, double, double, double) { return 0.25; }},
    {"copy", [](Lane& l, Array o, Array a, Array, Array) { l.copy(a, o); },
     [](double, double a, double, double) { return a; }},
    {"add", [](Lane& l, Array o, Array a, Array, Array) { l.add(o, -0.3, a); },
     [](double o, double a, double, double) { return o - 0.3 * a; }},
    {"subtract", [](Lane& l, Array o, Array a, Array b, Array) { l.subtract(o, a, b); },
     [](double, double a, double b, double) { return a - b; }},
    {"multiply", [](Lane& l, Array o, Array a, Array b, Array) { l.multiply(o, a, b); },
     [](double, double a, double b, double) { return a * b; }},
    {"add_product", [](Lane& l, Array o, Array a, Array b, Array) { l.add_product(o, -1.7, a, b); },
     [](double o, double a, double b, double) { return o - 1.7 * a * b; }},
    {"descend", [](Lane& l, Array o, Array a, Array b, Array c) { l.descend(o, a, b, c); },
     [](double, double a, double b, double c) { return a - b * c; }},
};

TEST_P(BackendTest, AlgebraIsItsFormulaOnRowsAndSharedRows) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  for (const Operation& operation : kOperations)
    for (const auto& [size, lie] : std::vector<std::pair<int, Rows>>{{1, Rows::anywhere},
                                                                     {7, Rows::anywhere},
                                                                     {64, Rows::anywhere},
                                                                     {1761, Rows::anywhere},
                                                                     {3, Rows::aligned},
                                                                     {64, Rows::aligned},
                                                                     {1761, Rows::aligned},
                                                                     {4099, Rows::aligned}})
      for (const int shared : {0, 1, 2, 4, 7}) {  // bits: a, b, c are one row for all tasks
        SCOPED_TRACE(std::string(operation.what) + " of " + std::to_string(size) + " numbers, shared " +
                     std::to_string(shared) + (lie == Rows::aligned ? ", aligned" : ""));
        const RowsLie rows_lie(lie);
        const auto seed = static_cast<unsigned>(size + shared);
        GuardedArray out(backend, kTasks, size);
        const std::vector<double> before = draw(kTasks * size, seed);
        out.fill_rows(before);
        GuardedArray in[3];
        std::vector<double> numbers[3];
        Array arrays[3];
        for (int k = 0; k < 3; ++k) {
          const int rows = shared >> k & 1 ? 1 : kTasks;
          numbers[k] = draw(rows * size, seed + 10 * static_cast<unsigned>(k + 1));
          in[k] = GuardedArray(backend, rows, size);
          in[k].fill_rows(numbers[k]);
          arrays[k] = rows == 1 ? in[k].shared(kTasks) : in[k].array();
        }
        // Tasks beyond out.tasks are left alone.
        const int tasks = kTasks - 1;
        operation.on_arrays(backend.lane(0), out.array().rows(0, tasks), arrays[0], arrays[1], arrays[2]);
        std::vector<double> expected = before;
        for (int task = 0; task < tasks; ++task)
          for (int i = 0; i < size; ++i) {
            const auto at = static_cast<std::size_t>(task * size + i);
            const auto number = [&](int k) { return numbers[k][shared >> k & 1 ? static_cast<std::size_t>(i) : at]; };
            expected[at] = operation.on_numbers(before[at], number(0), number(1), number(2));
          }
        EXPECT_TRUE(
            near(operation.what, expected, out.rows("out"), kTasks, tolerance(Pass::algebra, backend.number())));
      }
}

TEST_P(BackendTest, AlgebraWorksInPlace) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  const int size = 37;
  const std::vector<double> w = draw(size, 1), g = draw(size, 2), rate = draw(size, 3);
  GuardedArray a(backend, 1, size), b(backend, 1, size), c(backend, 1, size);
  a.fill_rows(w), b.fill_rows(g), c.fill_rows(rate);
  backend.lane(0).descend(a.array(), a.array(), c.array(), b.array());
  backend.lane(0).multiply(b.array(), b.array(), c.array());
  std::vector<double> descended, scaled;
  for (std::size_t i = 0; i < w.size(); ++i) {
    descended.push_back(w[i] - rate[i] * g[i]);
    scaled.push_back(rate[i] * g[i]);
  }
  EXPECT_TRUE(near("descend", descended, a.rows("w"), 1, tolerance(Pass::algebra, backend.number())));
  EXPECT_TRUE(near("multiply", scaled, b.rows("g"), 1, tolerance(Pass::algebra, backend.number())));
}

TEST_P(BackendTest, InnerAdamCarriesItsSecondMomentAndReadsItsCount) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  const int size = 41;
  const double beta2 = 0.99, eps = 1e-3;
  const std::vector<double> w = draw(kTasks * size, 4), g = draw(kTasks * size, 5), rate = draw(size, 6, 0.01, 0.1);
  std::vector<double> second = draw(kTasks * size, 7, 0, 1);
  GuardedArray out(backend, kTasks, size), from(backend, kTasks, size), gradient(backend, kTasks, size),
      rates(backend, 1, size), moment(backend, kTasks, size), count(backend, 1, 1, Number::float64);
  from.fill_rows(w), gradient.fill_rows(g), rates.fill_rows(rate), moment.fill_rows(second), count.fill_rows({10});
  std::vector<double> expected(w.size());
  for (const int step : {1, 2}) {
    backend.lane(0).descend_adam(out.array(), from.array(), moment.array(), rates.shared(kTasks), gradient.array(),
                                 beta2, eps, count.array(), step);
    for (std::size_t i = 0; i < w.size(); ++i) {
      second[i] = beta2 * second[i] + (1 - beta2) * g[i] * g[i];
      const double root = std::sqrt(second[i] / (1 - std::pow(beta2, 10 + step)));
      expected[i] = w[i] - rate[i % size] * g[i] / (root + eps);
    }
  }
  const double most = tolerance(Pass::algebra, backend.number());
  EXPECT_TRUE(near("second", second, moment.rows("second"), kTasks, most));
  EXPECT_TRUE(near("out", expected, out.rows("out"), kTasks, most));
}

TEST_P(BackendTest, RecordsAndStatisticsAreEachOthersReverse) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  const int channels = 9;
  const double eps = 1e-3;
  std::vector<double> statistics, record;
  for (int task = 0; task < kTasks; ++task)
    for (const double value : {0.0, 1.0}) {
      const auto part = draw(channels, static_cast<unsigned>(8 + task), value ? 0.5 : -1, 2);
      for (const double number : part) {
        statistics.push_back(number);
        record.push_back(value != 0 ? 1 / std::sqrt(number + eps) : number);
      }
    }
  GuardedArray given(backend, kTasks, 2 * channels), r(backend, kTasks, 2 * channels),
      back(backend, kTasks, 2 * channels);
  given.fill_rows(statistics);
  backend.lane(0).statistics_to_record(r.array(), given.array(), eps);
  backend.lane(0).record_to_statistics(back.array(), r.array(), eps);
  const double most = tolerance(Pass::algebra, backend.number());
  EXPECT_TRUE(near("record", record, r.rows("record"), kTasks, most));
  EXPECT_TRUE(near("statistics", statistics, back.rows("statistics"), kTasks, most));
}

TEST_P(BackendTest, UploadConvertsAndDownloadReturnsTheNumbers) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  for (const Number number : {Number::float32, Number::float64}) {
    GuardedArray a(backend, 3, 5, number);
    const std::vector<double> doubles = draw(15, 9);
    const std::vector<float> floats(doubles.begin(), doubles.end());
    a.fill_rows(doubles);
    EXPECT_TRUE(same_bits("doubles", doubles, a.rows("doubles")));
    GuardedArray b(backend, 1, 15, number);
    backend.upload(std::span<const float>(floats), b.array());
    EXPECT_TRUE(same_bits("floats", doubles, b.rows("floats")));
  }
}

TEST_P(BackendTest, EveryChunkRunsOnceAndTheFirstFailureIsThrown) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  EXPECT_GE(backend.lanes(), 1);
  std::mutex mutex;
  std::multiset<int> seen;
  backend.for_each_chunk(9, backend.lanes(), [&](int chunk, int lane) {
    const std::lock_guard<std::mutex> lock(mutex);
    EXPECT_GE(lane, 0);
    EXPECT_LT(lane, backend.lanes());
    seen.insert(chunk);
  });
  EXPECT_EQ(seen, (std::multiset<int>{0, 1, 2, 3, 4, 5, 6, 7, 8}));
  try {
    backend.for_each_chunk(9, backend.lanes(), [](int chunk, int) {
      if (chunk >= 3) throw std::runtime_error(std::to_string(chunk));
    });
    ADD_FAILURE() << "nothing thrown";
  } catch (const std::runtime_error& error) { EXPECT_STREQ(error.what(), "3"); }
  backend.for_each_chunk(0, backend.lanes(), [](int, int) { ADD_FAILURE() << "no chunk was asked for"; });
}

TEST_P(BackendTest, ChunksWriteWhatTheOthersRead) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  const int chunks = 6, size = 100;
  GuardedArray a(backend, chunks, size), sum(backend, 1, size);
  backend.lane(0).fill(a.array(), 1.0);
  backend.for_each_chunk(chunks, backend.lanes(), [&](int chunk, int lane) {
    const Array row = a.array().rows(chunk, 1);
    for (int k = 0; k <= chunk; ++k) backend.lane(lane).add(row, 1.0, row);
  });
  backend.lane(0).fill(sum.array(), 0.0);
  for (int chunk = 0; chunk < chunks; ++chunk) backend.lane(0).add(sum.array(), 1.0, a.array().rows(chunk, 1));
  EXPECT_EQ(sum.rows("sum"), std::vector<double>(size, 2 + 4 + 8 + 16 + 32 + 64));
}

TEST_P(BackendTest, ARecordingReadsMemoryAnewAtEveryRun) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  const int size = 33;
  GuardedArray a(backend, 1, size), b(backend, 1, size);
  backend.lane(0).fill(a.array(), 0.0);
  backend.lane(0).fill(b.array(), 1.0);
  const auto recording = backend.record([&] { backend.lane(0).add(a.array(), 2.0, b.array()); });
  EXPECT_EQ(a.rows("before a run"), std::vector<double>(size, 0.0));
  recording->run();
  backend.lane(0).fill(b.array(), 10.0);
  recording->run();
  recording->run();
  EXPECT_EQ(a.rows("after three runs"), std::vector<double>(size, 42.0));
}

}  // namespace
}  // namespace cumeta::testing
