// SPDX-License-Identifier: Apache-2.0
// The register-only FMA loop: twelve (16 registers) or twenty-four (32 registers) independent chains, no memory.
#include "kernels/tools/fma_peak_cpu.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "kernels/tools/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tools/fma_peak_cpu.cpp"
#include "hwy/foreach_target.h"
//
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cumeta {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int kChains = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON ? 24 : 12;

// Multiply-adds, times two, of `rounds` rounds; the sum is returned through `out` so that nothing is optimised away.
double fma_rounds(int rounds, float* out) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const V factor = hn::Set(d, out[0]);
  const V term = hn::Set(d, out[1]);
  V sum[kChains];
#pragma GCC unroll 32
  for (int i = 0; i < kChains; ++i) sum[i] = hn::Set(d, static_cast<float>(i));
  for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 32
    for (int i = 0; i < kChains; ++i) sum[i] = hn::MulAdd(sum[i], factor, term);
  }
  V total = hn::Zero(d);
#pragma GCC unroll 32
  for (int i = 0; i < kChains; ++i) total = hn::Add(total, sum[i]);
  out[2] = hn::GetLane(hn::SumOfLanes(d, total));
  return 2.0 * kChains * static_cast<double>(hn::Lanes(d)) * rounds;
}

int lanes() { return static_cast<int>(hn::Lanes(hn::ScalableTag<float>())); }
const char* target_name() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace cumeta
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cumeta {
HWY_EXPORT(fma_rounds);
HWY_EXPORT(lanes);
HWY_EXPORT(target_name);

namespace {
constexpr int kSliceCalls = 16;  // about half a millisecond
}

double fma_peak_gflops(int threads, double seconds) {
  using Clock = std::chrono::steady_clock;
  std::atomic<int> ready{0};
  std::vector<double> rates(static_cast<std::size_t>(std::max(threads, 1)));
  const auto work = [&](std::size_t worker) {
    float values[3] = {0.999f, 0.001f, 0.0f};
    ready.fetch_add(1);
    while (ready.load() < static_cast<int>(rates.size())) std::this_thread::yield();
    const auto start = Clock::now();
    auto before = start;
    double elapsed = 0;
    while (elapsed < seconds) {
      double flops = 0;
      for (int i = 0; i < kSliceCalls; ++i) flops += HWY_DYNAMIC_DISPATCH(fma_rounds)(20000, values);
      const auto after = Clock::now();
      const double slice = std::chrono::duration<double>(after - before).count();
      rates[worker] = std::max(rates[worker], flops / slice * 1e-9);
      before = after;
      elapsed = std::chrono::duration<double>(after - start).count();
    }
  };
  std::vector<std::thread> others;
  for (std::size_t worker = 1; worker < rates.size(); ++worker) others.emplace_back(work, worker);
  work(0);
  for (auto& other : others) other.join();
  double sum = 0;
  for (const double rate : rates) sum += rate;
  return sum;
}

const char* simd_target_name() { return HWY_DYNAMIC_DISPATCH(target_name)(); }
int simd_lanes() { return HWY_DYNAMIC_DISPATCH(lanes)(); }

}  // namespace cumeta
#endif
