// SPDX-License-Identifier: Apache-2.0
// The interpreter on nvcc's PTX of small kernels: right ones give the right numbers, every planted bug is caught.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "tests/ptx/ptx_machine.h"
#include "tests/support/test_tolerances.h"

namespace cumeta::ptx {
namespace {

const Module& kernels() {
  static const Module module = [] {
    std::ifstream file(CUMETA_PTX_KERNELS);
    std::stringstream text;
    text << file.rdbuf();
    return parse(text.str());
  }();
  return module;
}

const Kernel& kernel(const Machine& machine, const std::string& name, int bug) {
  return machine.module().find({name, "ILi" + std::to_string(bug) + "E"});
}

std::vector<float> numbers(std::size_t count) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> draw(-2, 2);
  std::vector<float> values(count);
  for (float& v : values) v = draw(random);
  return values;
}

template <class Work>
void expect_fault(FaultKind kind, Work&& work) {
  try {
    work();
    ADD_FAILURE() << "nothing was caught";
  } catch (const Fault& fault) {
    // A missing barrier shows as a race or as a read that comes before the write, whichever thread runs first.
    const bool early = kind == FaultKind::race && fault.kind == FaultKind::uninitialised;
    EXPECT_TRUE(fault.kind == kind || early) << fault.what();
    EXPECT_EQ(std::string(fault.what()).find('\n'), std::string::npos);
  }
}

std::vector<float> product(int bug, unsigned seed, std::vector<float>& a, std::vector<float>& b) {
  constexpr int n = 32;
  a = numbers(n * n), b = numbers(n * n + 5);
  b.resize(n * n);
  Machine machine(kernels(), seed);
  const float *pa = machine.upload("a", a), *pb = machine.upload("b", b);
  float* pc = machine.allocate<float>("c", n * n);
  machine.run(kernel(machine, "matrix_product", bug), {.grid = {2, 2}, .block = {16, 16}},
              {argument(pa), argument(pb), argument(pc), argument(n)});
  return machine.download(pc, n * n);
}

TEST(PtxInterpreter, MatrixProductInAnyOrderOfThreads) {
  std::vector<float> a, b;
  const std::vector<float> c = product(0, 1, a, b);
  for (int row = 0; row < 32; ++row)
    for (int column = 0; column < 32; ++column) {
      float sum = 0;
      for (int k = 0; k < 32; ++k)
        sum = std::fma(a[static_cast<std::size_t>(row * 32 + k)], b[static_cast<std::size_t>(k * 32 + column)], sum);
      EXPECT_EQ(c[static_cast<std::size_t>(row * 32 + column)], sum);
    }
  for (const unsigned seed : {2u, 3u, 4u}) EXPECT_EQ(product(0, seed, a, b), c);
}
TEST(PtxInterpreter, MatrixProductBugs) {
  std::vector<float> a, b;
  expect_fault(FaultKind::race, [&] { product(1, 1, a, b); });
  expect_fault(FaultKind::race, [&] { product(2, 1, a, b); });
  expect_fault(FaultKind::uninitialised, [&] { product(3, 1, a, b); });
  // Stepping over an array's end is out of bounds, or hits the array behind it: then its bytes race or are never
  // written.
  EXPECT_THROW(product(4, 1, a, b), Fault);
}

float block_sum(int bug) {
  const std::vector<float> x = numbers(512);
  Machine machine(kernels());
  const float* px = machine.upload("x", x);
  float* sums = machine.allocate<float>("sums", 2);
  machine.run(kernel(machine, "block_sum", bug), {.grid = {2}, .block = {256}}, {argument(px), argument(sums)});
  float expected = 0;
  for (std::size_t i = 0; i < 256; ++i) expected += x[i];
  return machine.download(sums, 2)[0] - expected;
}
TEST(PtxInterpreter, BlockSum) { EXPECT_NEAR(block_sum(0), 0, testing::kBlockSumTolerance); }
TEST(PtxInterpreter, BlockSumBugs) {
  for (const int bug : {1, 2}) expect_fault(FaultKind::race, [&] { block_sum(bug); });
}

std::vector<int> warp_reverse(int bug) {
  std::vector<int> in(64);
  for (int i = 0; i < 64; ++i) in[static_cast<std::size_t>(i)] = i;
  Machine machine(kernels());
  const int* pin = machine.upload("in", in);
  int* out = machine.allocate<int>("out", 64);
  machine.run(kernel(machine, "warp_reverse", bug), {.grid = {}, .block = {64}, .dynamic_shared = 256},
              {argument(pin), argument(out)});
  return machine.download(out, 64);
}
TEST(PtxInterpreter, WarpReverse) {
  const std::vector<int> out = warp_reverse(0);
  for (int i = 0; i < 64; ++i) EXPECT_EQ(out[static_cast<std::size_t>(i)], i / 32 * 32 + 31 - i % 32);
}
TEST(PtxInterpreter, WarpReverseBugs) {
  for (const int bug : {1, 2}) expect_fault(FaultKind::race, [&] { warp_reverse(bug); });
}

std::vector<float> copy_pipeline(int bug) {
  const std::vector<float> in = numbers(128 * 5);
  Machine machine(kernels());
  const float* pin = machine.upload("in", in);
  float* out = machine.allocate<float>("out", in.size());
  machine.run(kernel(machine, "copy_pipeline", bug), {.grid = {}, .block = {32}},
              {argument(pin), argument(out), argument(5)});
  return machine.download(out, in.size());
}
TEST(PtxInterpreter, CopyPipeline) {
  const std::vector<float> in = numbers(128 * 5), out = copy_pipeline(0);
  for (std::size_t i = 0; i < in.size(); ++i) EXPECT_EQ(out[i], 2 * in[i]);
}
TEST(PtxInterpreter, CopyPipelineBugs) {
  for (const int bug : {1, 2, 3, 4}) expect_fault(FaultKind::race, [&] { copy_pipeline(bug); });
}

std::vector<unsigned> histogram(int bug) {
  std::vector<unsigned> in(128);
  for (unsigned i = 0; i < 128; ++i) in[i] = i * i;
  Machine machine(kernels());
  const unsigned* pin = machine.upload("in", in);
  unsigned* counts = machine.upload("counts", std::vector<unsigned>(8, 0));
  machine.run(kernel(machine, "histogram", bug), {.grid = {2}, .block = {64}}, {argument(pin), argument(counts)});
  return machine.download(counts, 8);
}
TEST(PtxInterpreter, Histogram) { EXPECT_EQ(histogram(0), (std::vector<unsigned>{32, 64, 0, 0, 32, 0, 0, 0})); }
TEST(PtxInterpreter, HistogramBug) {
  expect_fault(FaultKind::race, [&] { histogram(1); });
}

float message(int bug) {
  Machine machine(kernels());
  unsigned* state = machine.upload("state", std::vector<unsigned>(2, 0));
  float *line = machine.allocate<float>("line", 64), *sum = machine.allocate<float>("sum", 1);
  machine.run(kernel(machine, "message", bug), {.grid = {2}, .block = {64}},
              {argument(state), argument(line), argument(sum)});
  return machine.download(sum, 1)[0];
}
TEST(PtxInterpreter, MessageBetweenBlocks) { EXPECT_EQ(message(0), 64 * 63 / 2); }
TEST(PtxInterpreter, MessageBetweenBlocksBugs) {
  for (const int bug : {1, 2, 3}) {
    SCOPED_TRACE(bug);
    expect_fault(FaultKind::race, [&] { message(bug); });
  }
}

void mistake(int bug) {
  const std::vector<float> in = numbers(128);
  Machine machine(kernels());
  const float* pin = machine.upload("in", in);
  float* out = machine.allocate<float>("out", 128);
  machine.run(kernel(machine, "mistake", bug), {.grid = {2}, .block = {64}},
              {argument(pin), argument(out), argument(128)});
  EXPECT_EQ(machine.download(out, 128)[3], in[60]);
}
TEST(PtxInterpreter, SingleMistakes) {
  mistake(0);
  const FaultKind kinds[] = {FaultKind::bounds,      FaultKind::bounds,       FaultKind::uninitialised,
                             FaultKind::divergence,  FaultKind::race,         FaultKind::misaligned,
                             FaultKind::unsupported, FaultKind::uninitialised};
  for (int bug = 1; bug <= 8; ++bug) {
    SCOPED_TRACE(bug);
    expect_fault(kinds[bug - 1], [&] { mistake(bug); });
  }
}

TEST(PtxInterpreter, FloatingPointFunctions) {
  const std::vector<float> x = numbers(32);
  Machine machine(kernels());
  const float* px = machine.upload("x", x);
  float* out = machine.allocate<float>("out", 32 * 12);
  machine.run(machine.module().find({"functions"}), {.grid = {}, .block = {32}}, {argument(px), argument(out)});
  const std::vector<float> got = machine.download(out, 32 * 12);
  for (std::size_t i = 0; i < 32; ++i) {
    const double v = static_cast<double>(x[i]);
    const double expected[] = {std::exp(v),
                               std::log(std::fabs(v) + 0.5),
                               std::sqrt(std::fabs(v)),
                               std::tanh(v),
                               1 / (v + 10),
                               v / 3,
                               1 / std::sqrt(std::fabs(v) + 1),
                               std::max(v, 0.0),
                               std::floor(v),
                               std::trunc(static_cast<double>(x[i] * 7)),
                               std::sin(v),
                               std::exp(v) / (v + 9)};
    for (std::size_t f = 0; f < 12; ++f)
      EXPECT_NEAR(static_cast<double>(got[12 * i + f]), expected[f],
                  testing::kInstructionTolerance * std::max(1.0, std::fabs(expected[f])))
          << f << " of " << v;
  }
}

TEST(PtxInterpreter, IntegerInstructions) {
  std::vector<std::int32_t> x(32);
  for (std::size_t i = 0; i < 32; ++i) x[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(i) * 0x9E3779B9u);
  Machine machine(kernels());
  const std::int32_t* px = machine.upload("x", x);
  auto* out = machine.allocate<std::int64_t>("out", 320);
  machine.run(machine.module().find({"integers"}), {.grid = {}, .block = {32}}, {argument(px), argument(out)});
  const std::vector<std::int64_t> got = machine.download(out, 320);
  for (std::size_t i = 0; i < 32; ++i) {
    const std::int32_t v = x[i];
    const auto u = static_cast<std::uint32_t>(v);
    const std::int64_t expected[] = {v / 7,
                                     v % 5,
                                     u / 7u,
                                     static_cast<std::int64_t>((static_cast<std::uint64_t>(u) * 0xD2511F53u) >> 32),
                                     static_cast<std::int64_t>(v) * 1'000'003,
                                     v >> 3,
                                     u >> 3,
                                     __builtin_popcount(u),
                                     static_cast<std::int16_t>(v) + static_cast<std::uint8_t>(v),
                                     static_cast<std::int64_t>(v) / -9};
    for (std::size_t f = 0; f < 10; ++f) EXPECT_EQ(got[10 * i + f], expected[f]) << f << " of " << v;
  }
}

TEST(PtxInterpreter, TensorProduct) {
  std::vector<float> a(128), b(64), c(128);  // small integers: exact in TF32
  for (std::size_t i = 0; i < 128; ++i) a[i] = static_cast<float>(i * 7 % 13) - 6, c[i] = static_cast<float>(i % 5);
  for (std::size_t i = 0; i < 64; ++i) b[i] = static_cast<float>(i * 5 % 11) - 5;
  Machine machine(kernels());
  float* d = machine.allocate<float>("d", 128);
  machine.run(machine.module().find({"tensor_product"}), {.grid = {}, .block = {32}},
              {argument(machine.upload("a", a)), argument(machine.upload("b", b)), argument(machine.upload("c", c)),
               argument(d)});
  const std::vector<float> got = machine.download(d, 128);
  for (std::size_t row = 0; row < 16; ++row)
    for (std::size_t column = 0; column < 8; ++column) {
      float sum = c[row * 8 + column];
      for (std::size_t k = 0; k < 8; ++k) sum += a[row * 8 + k] * b[k * 8 + column];
      EXPECT_EQ(got[row * 8 + column], sum);
    }
}

/// TF32's value: 10 bits of mantissa, ties away from zero.
double tf32(float value) {
  int exponent = 0;
  const double mantissa = std::frexp(static_cast<double>(value), &exponent);
  return std::ldexp(std::round(mantissa * 2048), exponent - 11);
}

/// The convolutions' contraction as nvcc compiles it, on rounded inputs and in the layout of fragments that the ISA
/// documents: the emulator has its own model of both.
TEST(PtxInterpreter, Tf32Contraction) {
  for (const bool transposed : {false, true})
    for (const int k : {40, 8, 1}) {
      SCOPED_TRACE(k);
      const auto depth = static_cast<std::size_t>(k);
      const std::vector<float> a = numbers(40 * depth), all = numbers(40 * depth + depth * 32);
      const std::vector<float> b(all.begin() + static_cast<std::ptrdiff_t>(40 * depth), all.end());
      Machine machine(kernels());
      const float *pa = machine.upload("a", a), *pb = machine.upload("b", b);
      float* c = machine.allocate<float>("c", 40 * 32);
      machine.run(machine.module().find({"tf32_contraction", transposed ? "ILb1E" : "ILb0E"}),
                  {.grid = {}, .block = {128}}, {argument(pa), argument(pb), argument(c), argument(k)});
      const std::vector<float> got = machine.download(c, 40 * 32);
      double worst = 0, rounding = 0;
      for (std::size_t m = 0; m < 40; ++m)
        for (std::size_t n = 0; n < 32; ++n) {
          double sum = 0, exact = 0;
          for (std::size_t i = 0; i < depth; ++i) {
            const float left = a[transposed ? i * 40 + m : m * depth + i], right = b[i * 32 + n];
            sum += tf32(left) * tf32(right), exact += static_cast<double>(left) * static_cast<double>(right);
          }
          worst = std::max(worst, std::fabs(static_cast<double>(got[m * 32 + n]) - sum));
          rounding = std::max(rounding, std::fabs(sum - exact));
        }
      EXPECT_LE(worst, testing::kMultiplyAddTolerance * k);
      EXPECT_GT(rounding, 1e-4) << "the inputs must not be exact in TF32";
    }
}

TEST(PtxInterpreter, LocalArray) {
  std::vector<int> order(16);
  for (int i = 0; i < 16; ++i) order[static_cast<std::size_t>(i)] = (5 * i + 3) % 16;
  const auto run = [&] {
    Machine machine(kernels());
    int* out = machine.allocate<int>("out", 512);
    machine.run(machine.module().find({"local_array"}), {.grid = {}, .block = {32}},
                {argument(machine.upload("order", order)), argument(out)});
    return machine.download(out, 512);
  };
  EXPECT_EQ(run()[16 * 3 + 4], 3 * 11);
}

TEST(PtxInterpreter, RefusesWhatItDoesNotKnow) {
  const auto module = [](const std::string& body) {
    return ".version 9.0\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 p)\n{\n.reg .b32 %r<4>;\n.reg "
           ".b64 %rd<2>;\n" +
           body + "\nret;\n}\n";
  };
  EXPECT_NO_THROW(parse(module("add.s32 %r1, %r2, %r3;")));
  for (const char* body : {"addc.s32 %r1, %r2, %r3;", "add.s32.weird %r1, %r2, %r3;", "wgmma.fence.sync.aligned;",
                           "add.s32 %r1, %q2, 1;", "bra nowhere;", "bar.red.popc.u32 %r1, 0, %r2;",
                           "cp.async.bulk.commit_group;", "call foo;", "ld.global.v8.f32 %r1, [%rd1];"})
    expect_fault(FaultKind::unsupported, [&] { parse(module(body)); });
}

TEST(PtxInterpreter, RefusesALaunchThatDoesNotFit) {
  Machine machine(kernels());
  const Kernel& sum = kernel(machine, "block_sum", 0);
  const float* x = machine.upload("x", numbers(512));
  float* out = machine.allocate<float>("out", 2);
  expect_fault(FaultKind::launch, [&] {
    machine.run(sum, {.grid = {}, .block = {257}}, {argument(x), argument(out)});
  });
  expect_fault(FaultKind::launch, [&] { machine.run(sum, {.grid = {}, .block = {256}}, {argument(x)}); });
  expect_fault(FaultKind::launch, [&] {
    machine.run(sum, {.grid = {}, .block = {256}}, {argument(x), argument(1.0f)});
  });
  expect_fault(FaultKind::launch, [&] { machine.module().find({"block_sum"}); });
}

}  // namespace
}  // namespace cumeta::ptx
