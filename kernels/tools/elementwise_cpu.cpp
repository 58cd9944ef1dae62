// SPDX-License-Identifier: Apache-2.0
// The shared loops of the CPU column, one vector at a time.
#include "kernels/tools/elementwise_cpu.h"

#include <cstring>

#include "kernels/tools/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tools/elementwise_cpu.cpp"
#include "hwy/foreach_target.h"
//
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#include "kernels/tools/channel_groups_cpu-inl.h"
#include "kernels/tools/simd_tail_cpu-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cumeta {
namespace HWY_NAMESPACE {

using V = FloatVector;
using Size = std::int64_t;

void fill_loop(float* out, float value, Size n) {
  const V v = hn::Set(FloatTag(), value);
  map_vectors(n, out, [v]() HWY_ATTR { return v; });
}
void add_scaled_loop(float* out, float a, const float* x, Size n) {
  const V factor = hn::Set(FloatTag(), a);
  map_vectors(
      n, out, [factor](V o, V v) HWY_ATTR { return hn::MulAdd(factor, v, o); }, out, x);
}
void subtract_loop(float* out, const float* a, const float* b, Size n) {
  map_vectors(
      n, out, [](V u, V v) HWY_ATTR { return hn::Sub(u, v); }, a, b);
}
void multiply_loop(float* out, const float* a, const float* b, Size n) {
  map_vectors(
      n, out, [](V u, V v) HWY_ATTR { return hn::Mul(u, v); }, a, b);
}
void scale_loop(float* out, float a, const float* x, Size n) {
  const V factor = hn::Set(FloatTag(), a);
  map_vectors(
      n, out, [factor](V v) HWY_ATTR { return hn::Mul(factor, v); }, x);
}
void add_loop(float* out, const float* a, const float* b, Size n) {
  map_vectors(
      n, out, [](V u, V v) HWY_ATTR { return hn::Add(u, v); }, a, b);
}
void add_product_loop(float* out, float s, const float* a, const float* b, Size n) {
  const V factor = hn::Set(FloatTag(), s);
  map_vectors(
      n, out, [factor](V o, V u, V v) HWY_ATTR { return hn::MulAdd(hn::Mul(factor, u), v, o); }, out, a, b);
}
void descend_loop(float* out, const float* w, const float* rate, const float* g, Size n) {
  map_vectors(
      n, out, [](V o, V r, V v) HWY_ATTR { return hn::NegMulAdd(r, v, o); }, w, rate, g);
}

void descend_adam_loop(float* out, const float* w, float* second, const float* rate, const float* g, cpu::AdamFactors f,
                       Size n) {
  const FloatTag d;
  const V beta2 = hn::Set(d, f.beta2);
  const V rest = hn::Set(d, f.rest);
  const V inverse = hn::Set(d, f.inverse_correction);
  const V eps = hn::Set(d, f.eps);
  map_vectors(
      n, second, [=](V s, V v) HWY_ATTR { return hn::MulAdd(beta2, s, hn::Mul(rest, hn::Mul(v, v))); }, second, g);
  map_vectors(
      n, out,
      [=](V o, V s, V r, V v)
          HWY_ATTR { return hn::Sub(o, hn::Div(hn::Mul(r, v), hn::Add(hn::Sqrt(hn::Mul(s, inverse)), eps))); },
      w, second, rate, g);
}

void momentum_step_loop(float* meta, float* first, const float* g, float rate, float momentum, Size n) {
  const FloatTag d;
  const V beta = hn::Set(d, momentum);
  const V a = hn::Set(d, rate);
  map_vectors(
      n, first, [=](V m, V v) HWY_ATTR { return hn::MulAdd(beta, m, v); }, first, g);
  map_vectors(
      n, meta, [=](V w, V m) HWY_ATTR { return hn::NegMulAdd(a, m, w); }, meta, first);
}
void adam_step_loop(float* meta, float* first, float* second, const float* g, const cpu::AdamStep& s, Size n) {
  const FloatTag d;
  const V beta1 = hn::Set(d, s.beta1), rest1 = hn::Set(d, s.rest1), beta2 = hn::Set(d, s.beta2),
          rest2 = hn::Set(d, s.rest2);
  const V inverse1 = hn::Set(d, s.inverse_correction1), inverse2 = hn::Set(d, s.inverse_correction2);
  const V a = hn::Set(d, s.rate), eps = hn::Set(d, s.eps);
  map_vectors(
      n, first, [=](V m, V v) HWY_ATTR { return hn::MulAdd(beta1, m, hn::Mul(rest1, v)); }, first, g);
  map_vectors(
      n, second, [=](V u, V v) HWY_ATTR { return hn::MulAdd(beta2, u, hn::Mul(rest2, hn::Mul(v, v))); }, second, g);
  map_vectors(
      n, meta,
      [=](V w, V m, V u) HWY_ATTR {
        return hn::NegMulAdd(a, hn::Div(hn::Mul(m, inverse1), hn::Add(hn::Sqrt(hn::Mul(u, inverse2)), eps)), w);
      },
      meta, first, second);
}
void clamp_loop(float* out, const float* x, float limit, Size n) {
  const V high = hn::Set(FloatTag(), limit);
  const V low = hn::Set(FloatTag(), -limit);
  map_vectors(
      n, out, [=](V v) HWY_ATTR { return hn::Min(hn::Max(v, low), high); }, x);
}

// Not max(x, 0), which would turn a NaN into a harmless 0 on some targets.
void relu_loop(float* y, const float* x, Size n) {
  const V zero = hn::Zero(FloatTag());
  map_vectors(
      n, y, [zero](V v) HWY_ATTR { return hn::IfThenZeroElse(hn::Le(v, zero), v); }, x);
}
void relu_mask_loop(float* out, const float* x, const float* in, Size n) {
  const V zero = hn::Zero(FloatTag());
  map_vectors(
      n, out, [zero](V v, V u) HWY_ATTR { return hn::IfThenElseZero(hn::Gt(v, zero), u); }, x, in);
}
void leaky_relu_mask_loop(float* out, const float* x, const float* in, float slope, Size n) {
  const V zero = hn::Zero(FloatTag());
  const V factor = hn::Set(FloatTag(), slope);
  map_vectors(
      n, out, [=](V v, V u) HWY_ATTR { return hn::IfThenElse(hn::Gt(v, zero), u, hn::Mul(factor, u)); }, x, in);
}
void tanh_loop(float* y, const float* x, Size n) {
  map_vectors(
      n, y, [](V v) HWY_ATTR { return hn::Tanh(FloatTag(), v); }, x);
}
void tanh_scale_loop(float* out, const float* y, const float* in, Size n) {
  const V one = hn::Set(FloatTag(), 1.0f);
  map_vectors(
      n, out, [one](V v, V u) HWY_ATTR { return hn::Mul(hn::NegMulAdd(v, v, one), u); }, y, in);
}
void tanh_tangent_loop(float* Rdx, const float* y, const float* dy, const float* Ry, const float* Rdy, Size n) {
  const V one = hn::Set(FloatTag(), 1.0f);
  map_vectors(
      n, Rdx,
      [one](V v, V u, V Rv, V Ru) HWY_ATTR {
        const V twice = hn::Mul(hn::Add(v, v), Rv);
        return hn::NegMulAdd(twice, u, hn::Mul(hn::NegMulAdd(v, v, one), Ru));
      },
      y, dy, Ry, Rdy);
}

template <int kVectors>
HWY_INLINE void channel_sums(float* out, const float* x, Size rows, Size columns, V factor, Channels<kVectors> c) {
  V sum[kVectors];
  CUMETA_EACH sum[j] = hn::Zero(FloatTag());
  for_each_block(rows, [&](Size first, Size last) HWY_ATTR {
    V part[kVectors];
    CUMETA_EACH part[j] = hn::Zero(FloatTag());
    for (Size row = first; row < last; ++row) { CUMETA_EACH part[j] = hn::Add(part[j], c.load(x + row * columns, j)); }
    CUMETA_EACH sum[j] = hn::Add(sum[j], part[j]);
  });
  CUMETA_EACH c.store(hn::Mul(sum[j], factor), out, j);
}
void column_sums_loop(float* out, const float* x, Size rows, Size columns, float factor) {
  const V f = hn::Set(FloatTag(), factor);
  for_each_group<4>(columns, [&](auto channels) HWY_ATTR { channel_sums(out, x, rows, columns, f, channels); });
}

void repeat_row_loop(float* out, const float* in, Size rows, Size columns, float factor) {
  if (rows > 0) scale_loop(out, factor, in, columns);
  for (Size row = 1; row < rows; ++row)
    std::memcpy(out + row * columns, out, static_cast<std::size_t>(columns) * sizeof(float));
}

// Blocks of 4 x 4, which 128 bits of every target hold.
void transpose_loop(float* out, const float* in, Size rows, Size columns) {
#if HWY_TARGET == HWY_SCALAR
  const Size full_columns = 0;
#else
  const hn::FixedTag<float, 4> d;
  const hn::Repartition<double, decltype(d)> pair;
  const Size full_rows = rows - rows % 4;
  const Size full_columns = columns - columns % 4;
  for (Size c = 0; c < full_columns; c += 4) {
    for (Size row = 0; row < full_rows; row += 4) {
      const float* from = in + row * columns + c;
      const auto r0 = hn::LoadU(d, from);
      const auto r1 = hn::LoadU(d, from + columns);
      const auto r2 = hn::LoadU(d, from + 2 * columns);
      const auto r3 = hn::LoadU(d, from + 3 * columns);
      const auto low01 = hn::BitCast(pair, hn::InterleaveLower(d, r0, r1));
      const auto low23 = hn::BitCast(pair, hn::InterleaveLower(d, r2, r3));
      const auto high01 = hn::BitCast(pair, hn::InterleaveUpper(d, r0, r1));
      const auto high23 = hn::BitCast(pair, hn::InterleaveUpper(d, r2, r3));
      float* to = out + c * rows + row;
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pair, low01, low23)), d, to);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pair, low01, low23)), d, to + rows);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pair, high01, high23)), d, to + 2 * rows);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pair, high01, high23)), d, to + 3 * rows);
    }
    for (Size row = full_rows; row < rows; ++row) {
      for (Size j = c; j < c + 4; ++j) out[j * rows + row] = in[row * columns + j];
    }
  }
#endif
  for (Size c = full_columns; c < columns; ++c) {
    for (Size row = 0; row < rows; ++row) out[c * rows + row] = in[row * columns + c];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cumeta
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cumeta {
HWY_EXPORT(fill_loop);
HWY_EXPORT(add_scaled_loop);
HWY_EXPORT(subtract_loop);
HWY_EXPORT(multiply_loop);
HWY_EXPORT(scale_loop);
HWY_EXPORT(add_loop);
HWY_EXPORT(add_product_loop);
HWY_EXPORT(descend_loop);
HWY_EXPORT(descend_adam_loop);
HWY_EXPORT(momentum_step_loop);
HWY_EXPORT(adam_step_loop);
HWY_EXPORT(clamp_loop);
HWY_EXPORT(relu_loop);
HWY_EXPORT(relu_mask_loop);
HWY_EXPORT(leaky_relu_mask_loop);
HWY_EXPORT(tanh_loop);
HWY_EXPORT(tanh_scale_loop);
HWY_EXPORT(tanh_tangent_loop);
HWY_EXPORT(column_sums_loop);
HWY_EXPORT(repeat_row_loop);
HWY_EXPORT(transpose_loop);

namespace cpu {
using Size = std::int64_t;
void fill(float* out, float value, Size n) { HWY_DYNAMIC_DISPATCH(fill_loop)(out, value, n); }
void add_scaled(float* out, float a, const float* x, Size n) { HWY_DYNAMIC_DISPATCH(add_scaled_loop)(out, a, x, n); }
void subtract(float* out, const float* a, const float* b, Size n) { HWY_DYNAMIC_DISPATCH(subtract_loop)(out, a, b, n); }
void multiply(float* out, const float* a, const float* b, Size n) { HWY_DYNAMIC_DISPATCH(multiply_loop)(out, a, b, n); }
void scale(float* out, float a, const float* x, Size n) { HWY_DYNAMIC_DISPATCH(scale_loop)(out, a, x, n); }
void add(float* out, const float* a, const float* b, Size n) { HWY_DYNAMIC_DISPATCH(add_loop)(out, a, b, n); }
void add_product(float* out, float s, const float* a, const float* b, Size n) {
  HWY_DYNAMIC_DISPATCH(add_product_loop)(out, s, a, b, n);
}
void descend(float* out, const float* w, const float* rate, const float* g, Size n) {
  HWY_DYNAMIC_DISPATCH(descend_loop)(out, w, rate, g, n);
}
void descend_adam(float* out, const float* w, float* second, const float* rate, const float* g, AdamFactors factors,
                  Size n) {
  HWY_DYNAMIC_DISPATCH(descend_adam_loop)(out, w, second, rate, g, factors, n);
}
void momentum_step(float* meta, float* first, const float* g, float rate, float momentum, Size n) {
  HWY_DYNAMIC_DISPATCH(momentum_step_loop)(meta, first, g, rate, momentum, n);
}
void adam_step(float* meta, float* first, float* second, const float* g, const AdamStep& step, Size n) {
  HWY_DYNAMIC_DISPATCH(adam_step_loop)(meta, first, second, g, step, n);
}
void clamp(float* out, const float* x, float limit, Size n) { HWY_DYNAMIC_DISPATCH(clamp_loop)(out, x, limit, n); }
void relu(float* y, const float* x, Size n) { HWY_DYNAMIC_DISPATCH(relu_loop)(y, x, n); }
void relu_mask(float* out, const float* x, const float* in, Size n) {
  HWY_DYNAMIC_DISPATCH(relu_mask_loop)(out, x, in, n);
}
void leaky_relu_mask(float* out, const float* x, const float* in, float slope, Size n) {
  HWY_DYNAMIC_DISPATCH(leaky_relu_mask_loop)(out, x, in, slope, n);
}
void tanh(float* y, const float* x, Size n) { HWY_DYNAMIC_DISPATCH(tanh_loop)(y, x, n); }
void tanh_scale(float* out, const float* y, const float* in, Size n) {
  HWY_DYNAMIC_DISPATCH(tanh_scale_loop)(out, y, in, n);
}
void tanh_tangent(float* Rdx, const float* y, const float* dy, const float* Ry, const float* Rdy, Size n) {
  HWY_DYNAMIC_DISPATCH(tanh_tangent_loop)(Rdx, y, dy, Ry, Rdy, n);
}
void column_sums(float* out, const float* x, Size rows, Size columns, float factor) {
  HWY_DYNAMIC_DISPATCH(column_sums_loop)(out, x, rows, columns, factor);
}
void repeat_row(float* out, const float* in, Size rows, Size columns, float factor) {
  HWY_DYNAMIC_DISPATCH(repeat_row_loop)(out, in, rows, columns, factor);
}
void transpose(float* out, const float* in, Size rows, Size columns) {
  HWY_DYNAMIC_DISPATCH(transpose_loop)(out, in, rows, columns);
}
}  // namespace cpu
}  // namespace cumeta
#endif
