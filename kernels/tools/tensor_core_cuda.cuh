// SPDX-License-Identifier: Apache-2.0
// Products on tensor cores in TF32 (10 bits of mantissa, float32's exponent): inputs rounded to nearest, sums in
// float32. sm_80 and later; a device before that never gets here (the door refuses the precision).
//
//   D[16][8] += A[16][8] B[8][8]     by one warp, with r = lane / 4, c = lane % 4
//   a[0..3] = A[r][c], A[r + 8][c], A[r][c + 4], A[r + 8][c + 4]
//   b[0..1] = B[c][r], B[c + 4][r]
//   d[0..3] = D[r][2 c], D[r][2 c + 1], D[r + 8][2 c], D[r + 8][2 c + 1]
#pragma once
#include <cuda_runtime.h>

namespace cumeta {

__device__ __forceinline__ unsigned to_tf32(float value) {
#if defined(CUMETA_CUDA_EMULATED)
  return emulator::round_to_tf32(value);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
#else
  return __float_as_uint(value);
#endif
}

__device__ __forceinline__ void multiply_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if defined(CUMETA_CUDA_EMULATED)
  emulator::multiply_m16n8k8(d, a, b);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

}  // namespace cumeta
