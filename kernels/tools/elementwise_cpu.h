// SPDX-License-Identifier: Apache-2.0
// Loops over numbers that the CPU column shares: vector algebra, activations, column sums, transposes. n counts
// numbers.
#pragma once

#include <cstdint>

namespace cumeta::cpu {

void fill(float* out, float value, std::int64_t n);
void add_scaled(float* out, float a, const float* x, std::int64_t n);                         // out += a x
void subtract(float* out, const float* a, const float* b, std::int64_t n);                    // out = a - b
void multiply(float* out, const float* a, const float* b, std::int64_t n);                    // out = a b
void scale(float* out, float a, const float* x, std::int64_t n);                              // out = a x
void add(float* out, const float* a, const float* b, std::int64_t n);                         // out = a + b
void add_product(float* out, float s, const float* a, const float* b, std::int64_t n);        // out += s a b
void descend(float* out, const float* w, const float* rate, const float* g, std::int64_t n);  // out = w - rate g

struct AdamFactors {
  float beta2, rest, inverse_correction, eps;  // rest = 1 - beta2, rounded once
};
// second = beta2 second + rest g^2;  out = w - rate g / (sqrt(second * inverse_correction) + eps)
void descend_adam(float* out, const float* w, float* second, const float* rate, const float* g, AdamFactors factors,
                  std::int64_t n);

/// The end of a meta-update over one stretch of parameters; see OuterStep.
struct AdamStep {
  float rate, beta1, rest1, beta2, rest2, inverse_correction1, inverse_correction2, eps;
};
void momentum_step(float* meta, float* first, const float* g, float rate, float momentum, std::int64_t n);
void adam_step(float* meta, float* first, float* second, const float* g, const AdamStep& step, std::int64_t n);
void clamp(float* out, const float* x, float limit, std::int64_t n);  // out = x kept within [-limit, limit]

void relu(float* y, const float* x, std::int64_t n);                          // y = x > 0 ? x : 0
void relu_mask(float* out, const float* x, const float* in, std::int64_t n);  // out = x > 0 ? in : 0
void leaky_relu_mask(float* out, const float* x, const float* in, float slope,
                     std::int64_t n);  // x > 0 ? in : slope in
void tanh(float* y, const float* x, std::int64_t n);
void tanh_scale(float* out, const float* y, const float* in, std::int64_t n);  // out = (1 - y^2) in
// Rdx = (1 - y^2) Rdy - 2 y Ry dy
void tanh_tangent(float* Rdx, const float* y, const float* dy, const float* Ry, const float* Rdy, std::int64_t n);

// out[c] = factor * sum over rows of x[row][c], by blocks of rows in ascending order.
void column_sums(float* out, const float* x, std::int64_t rows, std::int64_t columns, float factor);
// out[row][c] = factor * in[c]
void repeat_row(float* out, const float* in, std::int64_t rows, std::int64_t columns, float factor);
// out[c][row] = in[row][c]
void transpose(float* out, const float* in, std::int64_t rows, std::int64_t columns);

}  // namespace cumeta::cpu
