// SPDX-License-Identifier: Apache-2.0
// The SIMD targets that the CPU column is compiled for: include before any Highway header.
#pragma once

// Three targets are enough for what is in use (baseline, AVX2, AVX-512 on x86; NEON on Arm); each further one costs
// compile time. SVE has no arrays of vectors, which the register tile is made of.
#define CUMETA_UNUSED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
// The same source once less: under a sanitizer an unrolled tile of vectors takes the compiler minutes per target.
#define HWY_DISABLED_TARGETS (CUMETA_UNUSED_TARGETS | HWY_AVX3)
#else
#define HWY_DISABLED_TARGETS CUMETA_UNUSED_TARGETS
#endif
