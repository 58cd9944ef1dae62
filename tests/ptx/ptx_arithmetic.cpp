// SPDX-License-Identifier: Apache-2.0
// Integer and floating-point arithmetic as the PTX manual defines it.
#include "tests/ptx/ptx_arithmetic.h"

#include <algorithm>
#include <bit>
#include <cfenv>
#include <cmath>
#include <limits>

namespace cumeta::ptx {
namespace {

using U = std::uint64_t;
using S = std::int64_t;

double double_from(U bits) { return std::bit_cast<double>(bits); }
U bits_of_double(double value) { return std::bit_cast<U>(value); }

[[noreturn]] void refuse(const char* what) { throw Fault(FaultKind::unsupported, what); }

template <class Float>
Float rounded(Float value, Rounding rounding) {
  switch (rounding) {
    case Rounding::zero:
      return std::trunc(value);
    case Rounding::down:
      return std::floor(value);
    case Rounding::up:
      return std::ceil(value);
    case Rounding::nearest:
      break;
  }
  return std::nearbyint(value);  // ties to even
}

/// The processor rounds as the instruction says while this lives. (The file is compiled with -frounding-math.)
class RoundingMode {
 public:
  explicit RoundingMode(Rounding rounding) {
    if (rounding == Rounding::zero) std::fesetround(FE_TOWARDZERO);
    if (rounding == Rounding::down) std::fesetround(FE_DOWNWARD);
    if (rounding == Rounding::up) std::fesetround(FE_UPWARD);
  }
  ~RoundingMode() { std::fesetround(FE_TONEAREST); }
  RoundingMode(const RoundingMode&) = delete;
  RoundingMode& operator=(const RoundingMode&) = delete;
};

template <class Float>
Float floating(const Instruction& i, Float a, Float b, Float c) {
  switch (i.op) {
    case Op::add:
      return a + b;
    case Op::sub:
      return a - b;
    case Op::mul:
      return a * b;
    case Op::mad:
    case Op::fma:
      return std::fma(a, b, c);
    case Op::div:
      return a / b;
    case Op::min:
      return std::isnan(a) ? b : std::isnan(b) ? a : a < b || (a == b && std::signbit(a)) ? a : b;
    case Op::max:
      return std::isnan(a) ? b : std::isnan(b) ? a : a > b || (a == b && std::signbit(b)) ? a : b;
    case Op::neg:
      return -a;
    case Op::abs:
      return std::fabs(a);
    case Op::sqrt:
      return std::sqrt(a);
    case Op::rsqrt:
      return static_cast<Float>(1 / std::sqrt(static_cast<double>(a)));
    case Op::rcp:
      return 1 / a;
    case Op::ex2:
      return std::exp2(a);
    case Op::lg2:
      return std::log2(a);
    case Op::sin:
      return std::sin(a);
    case Op::cos:
      return std::cos(a);
    case Op::tanh:
      return std::tanh(a);
    case Op::copysign:
      return std::copysign(b, a);
    default:
      refuse("an opcode without a floating-point meaning");
  }
}

U multiply_high(U a, U b, Type type) {
  if (type.bits < 64)
    return narrowed(
        type.is_signed() ? static_cast<U>(static_cast<S>(a) * static_cast<S>(b)) >> type.bits : (a * b) >> type.bits,
        type);
  __extension__ using Wide = __int128;
  __extension__ using UnsignedWide = unsigned __int128;
  if (type.is_signed()) return static_cast<U>((static_cast<Wide>(static_cast<S>(a)) * static_cast<S>(b)) >> 64);
  return static_cast<U>((static_cast<UnsignedWide>(a) * b) >> 64);
}

U integral(const Instruction& i, U a, U b, U c, U d) {
  const Type type = i.type;
  const bool is_signed = type.is_signed();
  const auto sa = static_cast<S>(a), sb = static_cast<S>(b);
  const U width = static_cast<U>(type.bits);
  switch (i.op) {
    case Op::add:
      return a + b;
    case Op::sub:
      return a - b;
    case Op::mul:
      return i.half == Half::hi ? multiply_high(a, b, type) : a * b;
    case Op::mad:
      return (i.half == Half::hi ? multiply_high(a, b, type) : a * b) + c;
    case Op::div:
      return b == 0 ? ~U{0} : is_signed ? static_cast<U>(sa / sb) : a / b;
    case Op::rem:
      return b == 0 ? a : is_signed ? static_cast<U>(sa % sb) : a % b;
    case Op::min:
      return is_signed ? static_cast<U>(std::min(sa, sb)) : std::min(a, b);
    case Op::max:
      return is_signed ? static_cast<U>(std::max(sa, sb)) : std::max(a, b);
    case Op::neg:
      return U{0} - a;
    case Op::abs:
      return sa < 0 ? U{0} - a : a;
    case Op::bit_and:
      return a & b;
    case Op::bit_or:
      return a | b;
    case Op::bit_xor:
      return a ^ b;
    case Op::bit_not:
      return type.bits == 1 ? a ^ 1 : ~a;
    case Op::shl:
      return (b & 0xffffffff) >= width ? 0 : a << (b & 0xffffffff);
    case Op::shr: {
      const U by = std::min<U>(b & 0xffffffff, width);
      if (is_signed) return static_cast<U>(sa >> std::min<U>(by, 63));
      return by >= width ? 0 : a >> by;
    }
    case Op::popc:
      return static_cast<U>(std::popcount(a));
    case Op::clz:
      return static_cast<U>(std::countl_zero(a)) - (64 - width);
    case Op::brev: {
      U out = 0;
      for (U bit = 0; bit < width; ++bit) out |= (a >> bit & 1) << (width - 1 - bit);
      return out;
    }
    case Op::bfind: {
      const U magnitude = narrowed(is_signed && sa < 0 ? ~a : a, {'u', type.bits});
      return magnitude == 0 ? 0xffffffff : 63 - static_cast<U>(std::countl_zero(magnitude));
    }
    case Op::bfe: {
      const U at = b & 255, count = c & 255, bits = narrowed(a, {'u', type.bits});
      if (count == 0) return 0;
      U out = at >= width ? 0 : bits >> at;
      if (count < width) out &= (U{1} << count) - 1;
      const bool sign = (bits >> std::min(at + count - 1, width - 1) & 1) != 0;
      return is_signed && sign && count < width ? out | ~U{0} << std::min<U>(count, width - std::min(at, width)) : out;
    }
    case Op::bfi: {  // a into b from bit c, d bits
      const U at = c & 255, count = d & 255;
      U mask = count >= 64 ? ~U{0} : (U{1} << count) - 1;
      mask = at >= width ? 0 : mask << at;
      return (b & ~mask) | (at >= width ? 0 : (a << at) & mask);
    }
    case Op::prmt: {
      const U both = (a & 0xffffffff) | b << 32;
      U out = 0;
      for (int byte = 0; byte < 4; ++byte) {
        const U select = c >> (4 * byte) & 15;
        U value = both >> (8 * (select & 7)) & 0xff;
        if ((select & 8) != 0) value = (value & 0x80) != 0 ? 0xff : 0;
        out |= value << (8 * byte);
      }
      return out;
    }
    case Op::lop3: {
      U out = 0;
      for (U row = 0; row < 8; ++row)
        if ((d >> row & 1) != 0)
          out |= ((row & 4) != 0 ? a : ~a) & ((row & 2) != 0 ? b : ~b) & ((row & 1) != 0 ? c : ~c);
      return out;
    }
    case Op::shf: {
      const U both = (a & 0xffffffff) | b << 32;
      const U by = i.wrap ? c & 31 : std::min<U>(c & 0xffffffff, 32);
      return i.left ? (both << by) >> 32 : both >> by;
    }
    default:
      refuse("an opcode without an integer meaning");
  }
}

template <class Float>
U to_integer(Float value, Type to, Rounding rounding) {
  if (std::isnan(value)) return to.bits == 64 ? U{1} << 63 : 0;
  value = rounded(value, rounding);
  const Float top = std::ldexp(Float{1}, to.is_signed() ? to.bits - 1 : to.bits);
  const Float bottom = to.is_signed() ? -top : Float{0};
  if (value >= top) return to.is_signed() ? (U{1} << (to.bits - 1)) - 1 : narrowed(~U{0}, to);
  if (value < bottom) return to.is_signed() ? ~U{0} << (to.bits - 1) : 0;
  return to.is_signed() ? static_cast<U>(static_cast<S>(value)) : static_cast<U>(value);
}

U converted(const Instruction& i, U a) {
  const Type to = i.type, from = i.source;
  if (to.kind == 't')  // cvt.rna.tf32.f32: to nearest, ties away from zero; a NaN stays one
    return std::isnan(float_from(a)) ? U{0x7fffffff} : (a + 0x1000) & ~U{0x1fff};
  if (from.is_float()) {
    const double value = from.bits == 32 ? static_cast<double>(float_from(a)) : double_from(a);
    if (!to.is_float()) return to_integer(value, to, i.rounding);
    if (to.bits == 64) return bits_of_double(i.integral ? rounded(value, i.rounding) : value);
    if (i.integral) return bits_of(static_cast<float>(rounded(value, i.rounding)));
    const RoundingMode mode(i.rounding);
    auto out = static_cast<float>(value);
    if (i.saturate) out = std::isnan(out) ? 0.0f : std::clamp(out, 0.0f, 1.0f);
    return bits_of(out);
  }
  const U value = narrowed(a, from);
  if (to.is_float()) {
    const RoundingMode mode(i.rounding);
    if (to.bits == 32)
      return bits_of(from.is_signed() ? static_cast<float>(static_cast<S>(value)) : static_cast<float>(value));
    return bits_of_double(from.is_signed() ? static_cast<double>(static_cast<S>(value)) : static_cast<double>(value));
  }
  if (i.saturate) refuse("cvt.sat of integers");
  return value;
}

}  // namespace

float float_from(U bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits)); }
U bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }

U narrowed(U value, Type type) {
  if (type.bits >= 64 || type.kind == 0) return value;
  if (type.kind == 'p') return value & 1;
  const U mask = (U{1} << type.bits) - 1;
  const bool negative = type.is_signed() && (value >> (type.bits - 1) & 1) != 0;
  return negative ? value | ~mask : value & mask;
}

bool compared(const Instruction& i, U a, U b) {
  if (i.type.is_float()) {
    const double x = i.type.bits == 32 ? static_cast<double>(float_from(a)) : double_from(a);
    const double y = i.type.bits == 32 ? static_cast<double>(float_from(b)) : double_from(b);
    const bool unordered = std::isnan(x) || std::isnan(y);
    switch (i.compare) {
      case Compare::eq:
        return x == y;
      case Compare::ne:
        return !unordered && x != y;
      case Compare::lt:
        return x < y;
      case Compare::le:
        return x <= y;
      case Compare::gt:
        return x > y;
      case Compare::ge:
        return x >= y;
      case Compare::equ:
        return unordered || x == y;
      case Compare::neu:
        return unordered || x != y;
      case Compare::ltu:
        return unordered || x < y;
      case Compare::leu:
        return unordered || x <= y;
      case Compare::gtu:
        return unordered || x > y;
      case Compare::geu:
        return unordered || x >= y;
      case Compare::num:
        return !unordered;
      case Compare::nan:
        return unordered;
    }
  }
  a = narrowed(a, i.type), b = narrowed(b, i.type);
  const auto sa = static_cast<S>(a), sb = static_cast<S>(b);
  switch (i.compare) {
    case Compare::eq:
      return a == b;
    case Compare::ne:
      return a != b;
    case Compare::lt:
      return i.type.is_signed() ? sa < sb : a < b;
    case Compare::le:
      return i.type.is_signed() ? sa <= sb : a <= b;
    case Compare::gt:
      return i.type.is_signed() ? sa > sb : a > b;
    case Compare::ge:
      return i.type.is_signed() ? sa >= sb : a >= b;
    default:
      refuse("an unordered comparison of integers");
  }
}

U evaluate(const Instruction& i, U a, U b, U c, U d) {
  switch (i.op) {
    case Op::mov:
      return i.type.kind == 'p' ? a & 1 : a;
    case Op::selp:
      return (c & 1) != 0 ? a : b;
    case Op::cvt:
      return narrowed(converted(i, a), {i.type.kind == 's' ? 's' : 'u', i.type.bits});
    default:
      break;
  }
  if (i.type == Type{'f', 32}) {
    const RoundingMode mode(i.rounding);
    float out = floating(i, float_from(a), float_from(b), float_from(c));
    if (i.saturate) out = std::isnan(out) ? 0.0f : std::clamp(out, 0.0f, 1.0f);
    if (i.flush && std::fabs(out) < std::numeric_limits<float>::min()) out = std::copysign(0.0f, out);
    return bits_of(out);
  }
  if (i.type == Type{'f', 64}) {
    const RoundingMode mode(i.rounding);
    return bits_of_double(floating(i, double_from(a), double_from(b), double_from(c)));
  }
  // Shifts and field positions keep their count as it is; the values themselves have the instruction's width.
  const bool counts = i.op == Op::shl || i.op == Op::shr;
  a = narrowed(a, i.type);
  if (!counts) b = narrowed(b, i.type);
  if (i.half != Half::wide) return narrowed(integral(i, a, b, c, d), i.type);
  const U product = i.op == Op::mul ? a * b : a * b + c;  // wide: operands extended above, the product has room
  return narrowed(product, {i.type.kind, 2 * i.type.bits});
}

U updated(Atomic atomic, Type type, U old, U b, U c) {
  const U x = narrowed(old, type), y = narrowed(b, type);
  const auto sx = static_cast<S>(x), sy = static_cast<S>(y);
  switch (atomic) {
    case Atomic::add:
      return x + y;
    case Atomic::min:
      return (type.is_signed() ? sx < sy : x < y) ? x : y;
    case Atomic::max:
      return (type.is_signed() ? sx > sy : x > y) ? x : y;
    case Atomic::exch:
      return y;
    case Atomic::cas:
      return x == y ? c : x;
    case Atomic::bit_and:
      return x & y;
    case Atomic::bit_or:
      return x | y;
    case Atomic::bit_xor:
      return x ^ y;
    case Atomic::inc:
      return x >= y ? 0 : x + 1;
    case Atomic::dec:
      return x == 0 || x > y ? y : x - 1;
  }
  return 0;
}

}  // namespace cumeta::ptx
