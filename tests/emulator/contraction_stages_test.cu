// SPDX-License-Identifier: Apache-2.0
// The contraction's loop (kernels/tools/contraction_cuda.cuh) over more chunks, windows and terms than the layers'
// tiles of one stage meet:  C[m][n] = sum over k of A[k][m] B[k][n], small integers, exactly.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernels/tools/contraction_cuda.cuh"

namespace {

template <int stages>
using SmallTile = cumeta::Tile<4, 4, 8, 8, 2, 16, stages>;

/// Matrices [k][32] as they lie in memory, term after term.
template <class T>
struct Rows {
  static constexpr int window = 3;
  const float *a, *b;
  int chunks, next = 0;

  __device__ static int a_at() { return 0; }
  __device__ static int b_at() { return 0; }
  __device__ void open(int term, int chunk) { next = term * chunks + chunk; }
  __device__ void load(float* a_to, float* b_to) {
    for (int i = static_cast<int>(threadIdx.x); i < T::KB * T::BM; i += T::threads) {
      cumeta::copy_async<4>(a_to + i, a + next * T::KB * T::BM + i);
      cumeta::copy_async<4>(b_to + i, b + next * T::KB * T::BN + i);
    }
    ++next;
  }
};

template <class T>
__global__ void multiply(const float* a, const float* b, float* c, int terms, int chunks) {
  constexpr cumeta::Layout along_row = cumeta::Layout::along_row;
  CUMETA_SHARED(float4, shared, (T::template shared_words<along_row, along_row>() / 4));
  Rows<T> rows{a, b, chunks};
  cumeta::contract<T, along_row, along_row>(reinterpret_cast<float*>(shared), terms, chunks, rows,
                                            [&](int m, int n, float4 v) {
                                              float* to = c + m * T::BN + n;
                                              to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
                                            });
}

template <int stages>
void expect_equal_products() {
  using T = SmallTile<stages>;
  for (const auto& [terms, chunks] : {std::pair{1, 1}, {1, 2}, {2, 3}, {2, 7}}) {
    const int depth = terms * chunks * T::KB;
    std::mt19937 random(5);
    std::vector<float> a(static_cast<std::size_t>(depth * T::BM)), b(static_cast<std::size_t>(depth * T::BN));
    for (float& value : a) value = static_cast<float>(random() % 9) - 4.0f;
    for (float& value : b) value = static_cast<float>(random() % 9) - 4.0f;
    float *da = nullptr, *db = nullptr, *dc = nullptr;
    ASSERT_EQ(cudaMalloc(&da, sizeof(float) * a.size()), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&db, sizeof(float) * b.size()), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&dc, sizeof(float) * T::BM * T::BN), cudaSuccess);
    cudaMemcpy(da, a.data(), sizeof(float) * a.size(), cudaMemcpyHostToDevice);
    cudaMemcpy(db, b.data(), sizeof(float) * b.size(), cudaMemcpyHostToDevice);
    emulator::launch(multiply<T>, 1, T::threads, 0, nullptr, da, db, dc, terms, chunks);
    std::vector<float> c(static_cast<std::size_t>(T::BM * T::BN));
    ASSERT_EQ(cudaMemcpy(c.data(), dc, sizeof(float) * c.size(), cudaMemcpyDeviceToHost), cudaSuccess);
    for (int m = 0; m < T::BM; ++m)
      for (int n = 0; n < T::BN; ++n) {
        float sum = 0.0f;
        for (int k = 0; k < depth; ++k)
          sum += a[static_cast<std::size_t>(k * T::BM + m)] * b[static_cast<std::size_t>(k * T::BN + n)];
        ASSERT_EQ(c[static_cast<std::size_t>(m * T::BN + n)], sum) << terms << " terms of " << chunks << " chunks";
      }
    cudaDeviceReset();
  }
}

TEST(ContractionStages, OneStage) { expect_equal_products<1>(); }
TEST(ContractionStages, TwoStages) { expect_equal_products<2>(); }
TEST(ContractionStages, ThreeStages) { expect_equal_products<3>(); }

}  // namespace
