// SPDX-License-Identifier: Apache-2.0
// The words of CUDA C++ that g++ does not know: qualifiers, vector types and the built-in index variables.
#pragma once
#include <cstddef>
#include <cstdint>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __builtin_assume(condition) ((void)0)

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};

// name2, name3, name4 with their make_ functions, aligned as on the device.
#define CUMETA_EMULATOR_VECTORS(name, type)                                      \
  struct alignas(2 * sizeof(type)) name##2 {                                     \
    type x, y;                                                                   \
  };                                                                             \
  struct alignas(4 * sizeof(type) > 16 ? 16 : 4 * sizeof(type)) name##4 {        \
    type x, y, z, w;                                                             \
  };                                                                             \
  constexpr name##2 make_##name##2(type x, type y) { return {x, y}; }            \
  constexpr name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; } \
  constexpr name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
#define CUMETA_EMULATOR_VECTOR3(name, type) \
  struct name##3 {                          \
    type x, y, z;                           \
  };

CUMETA_EMULATOR_VECTOR3(char, signed char)
CUMETA_EMULATOR_VECTOR3(uchar, unsigned char)
CUMETA_EMULATOR_VECTOR3(short, short)
CUMETA_EMULATOR_VECTOR3(ushort, unsigned short)
CUMETA_EMULATOR_VECTOR3(int, int)
CUMETA_EMULATOR_VECTOR3(float, float)
CUMETA_EMULATOR_VECTOR3(double, double)
CUMETA_EMULATOR_VECTOR3(longlong, long long)
CUMETA_EMULATOR_VECTOR3(ulonglong, unsigned long long)
CUMETA_EMULATOR_VECTORS(char, signed char)
CUMETA_EMULATOR_VECTORS(uchar, unsigned char)
CUMETA_EMULATOR_VECTORS(short, short)
CUMETA_EMULATOR_VECTORS(ushort, unsigned short)
CUMETA_EMULATOR_VECTORS(int, int)
CUMETA_EMULATOR_VECTORS(uint, unsigned)
CUMETA_EMULATOR_VECTORS(float, float)
CUMETA_EMULATOR_VECTORS(double, double)
CUMETA_EMULATOR_VECTORS(longlong, long long)
CUMETA_EMULATOR_VECTORS(ulonglong, unsigned long long)
#undef CUMETA_EMULATOR_VECTORS
#undef CUMETA_EMULATOR_VECTOR3

constexpr int warpSize = 32;

// One kernel runs at a time in a process, so plain globals serve; the scheduler writes them at every switch.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
