// SPDX-License-Identifier: Apache-2.0
// The CPU contraction against plain loops in double, on small integers (==), for odd sizes, both forms, every tile
// height and width.
#include "kernels/tools/contraction_cpu.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/tools/fma_peak_cpu.h"

namespace cumeta {
namespace {

using Floats = std::vector<float>;

Floats small_integers(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> value(-3, 3);
  Floats values(count);
  for (float& v : values) v = static_cast<float>(value(random));
  return values;
}

// Rows of A and C in shuffled order and with gaps, so that an offset ignored or a row too many shows.
struct Case {
  std::int64_t rows, columns, depth;
  int segments;
  bool listed, accumulate;
  bool started = false;  // from a row, as from a bias
};

void check(const Case& c) {
  SCOPED_TRACE(::testing::Message() << "rows " << c.rows << " columns " << c.columns << " depth " << c.depth
                                    << " segments " << c.segments << " listed " << c.listed << " accumulate "
                                    << c.accumulate);
  const std::int64_t guard = 3;
  const std::int64_t c_step = c.columns + guard;
  const std::int64_t b_step = c.columns + 1;
  std::mt19937 random(static_cast<unsigned>(c.rows * 1000 + c.columns));
  std::vector<std::int32_t> order(static_cast<std::size_t>(c.rows));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  const std::int64_t a_step = c.listed ? 0 : 2;
  const std::int64_t a_row_step = c.listed ? 1 : 2 * c.depth + 1;
  std::vector<std::int32_t> a_rows, c_rows, a_terms, b_terms;
  for (const std::int32_t row : order) {
    a_rows.push_back(static_cast<std::int32_t>(row * a_row_step));
    c_rows.push_back(static_cast<std::int32_t>(row * c_step));
  }
  for (std::int64_t k = 0; k < c.depth; ++k) {
    a_terms.push_back(static_cast<std::int32_t>(((k * 7) % std::max<std::int64_t>(c.depth, 1)) * c.rows));
    b_terms.push_back(static_cast<std::int32_t>(((c.depth - 1) - k) * b_step));
  }
  std::vector<Floats> a, b;
  std::vector<ContractionSegment> segments;
  for (int s = 0; s < c.segments; ++s) {
    a.push_back(
        small_integers(static_cast<std::size_t>((c.rows + 1) * (2 * c.depth + 2)), 1 + static_cast<unsigned>(s)));
    b.push_back(small_integers(static_cast<std::size_t>((c.depth + 1) * b_step), 100 + static_cast<unsigned>(s)));
  }
  for (int s = 0; s < c.segments; ++s) {
    segments.push_back({a[static_cast<std::size_t>(s)].data(), b[static_cast<std::size_t>(s)].data(), c.depth});
  }
  Floats result = small_integers(static_cast<std::size_t>(c.rows * c_step), 55);
  const Floats start = small_integers(static_cast<std::size_t>(c.columns), 77);
  std::vector<double> expected(result.begin(), result.end());
  for (std::size_t i = 0; i < static_cast<std::size_t>(c.rows); ++i) {
    for (std::int64_t j = 0; j < c.columns; ++j) {
      double sum = c.accumulate ? result[static_cast<std::size_t>(c_rows[i] + j)] : 0.0;
      if (c.started) sum = start[static_cast<std::size_t>(j)];
      for (const auto& segment : segments) {
        for (std::int64_t k = 0; k < segment.depth; ++k) {
          const std::int64_t ak = c.listed ? a_terms[static_cast<std::size_t>(k)] : k * a_step;
          const std::int64_t bk = c.listed ? b_terms[static_cast<std::size_t>(k)] : k * b_step;
          sum += static_cast<double>(segment.a[a_rows[i] + ak]) * segment.b[bk + j];
        }
      }
      expected[static_cast<std::size_t>(c_rows[i] + j)] = sum;
    }
  }
  Contraction contraction;
  contraction.rows = c.rows;
  contraction.columns = c.columns;
  contraction.a_rows = a_rows.data();
  contraction.c_rows = c_rows.data();
  contraction.segments = segments.data();
  contraction.segment_count = c.segments;
  contraction.a_step = a_step;
  contraction.b_step = b_step;
  if (c.listed) {
    contraction.a_terms = a_terms.data();
    contraction.b_terms = b_terms.data();
  }
  contraction.c = result.data();
  contraction.accumulate = c.accumulate;
  if (c.started) contraction.start = start.data();
  contract(contraction);
  for (std::size_t i = 0; i < result.size(); ++i) ASSERT_EQ(result[i], expected[i]) << "at " << i;
}

TEST(Contraction, EveryHeightAndWidthInBothForms) {
  for (const bool listed : {false, true}) {
    for (std::int64_t rows = 1; rows <= 27; ++rows) check({rows, 1 + (rows * 13) % 70, 11, 1, listed, rows % 2 == 0});
    for (std::int64_t columns = 1; columns <= 140; ++columns) check({7, columns, 5, 2, listed, columns % 3 == 0});
    for (std::int64_t columns = 1; columns <= 70; columns += 3) check({9, columns, 300, 1, listed, false, true});
    check({9, 21, 0, 1, listed, false, true});
  }
}

TEST(Contraction, DeepSumsCrossTheBlocks) {
  for (const bool listed : {false, true}) {
    for (const std::int64_t depth : {1, 63, 64, 65, 127, 128, 129, 256, 257, 700}) {
      check({13, 35, depth, 1, listed, false});
      check({6, 64, depth, 3, listed, true});
    }
    check({5, 17, 9, 40, listed, false});  // more segments than one block takes
  }
}

TEST(Contraction, NoTermsLeaveZerosOrTheOldValues) {
  for (const bool listed : {false, true}) {
    check({5, 19, 0, 1, listed, false});
    check({5, 19, 0, 1, listed, true});
  }
}

TEST(Contraction, EvenRowsEqualPlainLoops) {
  for (const std::int64_t rows : {1, 10, 239, 240, 241, 1000}) {
    const std::int64_t columns = 21;
    const std::int64_t depth = 9;
    const Floats a = small_integers(static_cast<std::size_t>(rows * depth), 3);
    const Floats b = small_integers(static_cast<std::size_t>(depth * columns), 4);
    Floats c(static_cast<std::size_t>(rows * columns), 100.0f);
    const ContractionSegment segment{a.data(), b.data(), depth};
    EvenContraction even;
    even.rows = rows;
    even.columns = columns;
    even.a_row_step = depth;
    even.b_step = columns;
    even.c_step = columns;
    even.segments = &segment;
    even.segment_count = 1;
    even.c = c.data();
    contract(even);
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) {
        double sum = 0;
        for (std::int64_t k = 0; k < depth; ++k) {
          sum += static_cast<double>(a[static_cast<std::size_t>(i * depth + k)]) *
                 b[static_cast<std::size_t>(k * columns + j)];
        }
        ASSERT_EQ(c[static_cast<std::size_t>(i * columns + j)], sum) << "row " << i << " column " << j;
      }
    }
  }
}

TEST(Contraction, TheBitsOfARowDoNotDependOnItsNeighbours) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  const std::int64_t rows = 29, columns = 43, depth = 301;
  Floats a(static_cast<std::size_t>(rows * depth)), b(static_cast<std::size_t>(depth * columns));
  for (float& v : a) v = normal(random);
  for (float& v : b) v = normal(random);
  Floats together(static_cast<std::size_t>(rows * columns)), alone(together.size());
  const auto rows_of = [&](std::int64_t first, std::int64_t count, std::int64_t first_column, std::int64_t width,
                           Floats& to) {
    const ContractionSegment segment{a.data() + first * depth, b.data() + first_column, depth};
    EvenContraction even;
    even.rows = count;
    even.columns = width;
    even.a_row_step = depth;
    even.b_step = columns;
    even.c_step = columns;
    even.segments = &segment;
    even.segment_count = 1;
    even.c = to.data() + first * columns + first_column;
    contract(even);
  };
  rows_of(0, rows, 0, columns, together);
  for (std::int64_t row = 0; row < rows; ++row) {
    rows_of(row, 1, 0, 17, alone);
    rows_of(row, 1, 17, columns - 17, alone);
  }
  EXPECT_EQ(together, alone);
}

TEST(FmaPeak, IsMeasured) {
  EXPECT_GT(fma_peak_gflops(1, 0.01), 0.1);
  EXPECT_GE(simd_lanes(), 1);
  EXPECT_STRNE(simd_target_name(), "");
}

}  // namespace
}  // namespace cumeta
