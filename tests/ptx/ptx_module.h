// SPDX-License-Identifier: Apache-2.0
// PTX as data: the kernels of a module as nvcc wrote them, decoded once; and the fault that every misuse becomes.
#pragma once
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace cumeta::ptx {

/// What went wrong. unsupported: PTX that this interpreter does not know; it never guesses.
enum class FaultKind { race, uninitialised, bounds, misaligned, divergence, deadlock, launch, unsupported };
struct Fault : std::runtime_error {
  Fault(FaultKind fault, const std::string& text) : std::runtime_error(text), kind(fault) {}
  FaultKind kind;
};

/// kind: 'u' 's' 'b' integers, 'f' floating point, 'p' predicate, 't' TF32 (a float32 in memory), 0 none.
struct Type {
  char kind = 0;
  int bits = 0;
  int bytes() const { return bits == 1 ? 1 : bits / 8; }
  bool is_float() const { return kind == 'f'; }
  bool is_signed() const { return kind == 's'; }
  friend bool operator==(const Type&, const Type&) = default;
};

enum class Space { generic, global, shared, local, param, constant };

enum class Op {
  // one result from up to four values
  mov,
  add,
  sub,
  mul,
  mad,
  fma,
  div,
  rem,
  min,
  max,
  neg,
  abs,
  bit_and,
  bit_or,
  bit_xor,
  bit_not,
  shl,
  shr,
  setp,
  selp,
  cvt,
  sqrt,
  rsqrt,
  rcp,
  ex2,
  lg2,
  sin,
  cos,
  tanh,
  copysign,
  popc,
  clz,
  brev,
  bfind,
  bfe,
  bfi,
  prmt,
  lop3,
  shf,
  // memory
  cvta,
  cvta_to,
  ld,
  st,
  atom,
  red,
  cp_async,
  cp_async_commit,
  cp_async_wait,
  fence,
  // control
  bra,
  ret,
  bar_sync,
  trap,
  // the lanes of a warp together
  shfl,
  vote,
  warp_sync,
  activemask,
  mma
};

enum class Half { none, lo, hi, wide };
enum class Compare { eq, ne, lt, le, gt, ge, equ, neu, ltu, leu, gtu, geu, num, nan };
enum class Rounding { nearest, zero, down, up };
enum class Atomic { add, min, max, exch, cas, bit_and, bit_or, bit_xor, inc, dec };
enum class Shuffle { up, down, bfly, idx };
enum class Vote { all, any, uni, ballot };

struct Operand {
  enum class Kind { none, reg, immediate, special, address, list, dynamic_shared } kind = Kind::none;
  int reg = -1;             ///< reg, or an address's base register
  int reg2 = -1;            ///< the predicate of "d|p"
  bool negated = false;     ///< "!p"
  bool dynamic = false;     ///< an address based on the dynamic shared array
  std::uint64_t value = 0;  ///< immediate, special register's number, or an address's offset
  std::vector<Operand> list;
};

/// Special registers, in the order in which Operand::value counts them.
inline const std::vector<std::string> special_registers = {
    "%tid.x",    "%tid.y",    "%tid.z",    "%ntid.x", "%ntid.y", "%ntid.z",      "%ctaid.x",     "%ctaid.y", "%ctaid.z",
    "%nctaid.x", "%nctaid.y", "%nctaid.z", "%laneid", "%warpid", "%lanemask_lt", "%lanemask_eq", "WARP_SZ"};

struct Instruction {
  Op op = Op::mov;
  Type type, source;  ///< the first and the last type of the mnemonic
  Space space = Space::generic;
  Half half = Half::none;
  Compare compare = Compare::eq;
  Rounding rounding = Rounding::nearest;
  Atomic atomic = Atomic::add;
  Shuffle shuffle = Shuffle::up;
  Vote vote = Vote::all;
  char combine = 0;  ///< setp with a second predicate: '&' '|' '^'
  bool saturate = false, flush = false, wrap = false, left = false, integral = false, wait_all = false;
  bool strong = false;  ///< a load that is relaxed, volatile or acquiring
  int vector = 1;
  int guard = -1;  ///< predicate register of "@p"
  bool guard_negated = false;
  std::vector<Operand> operands;
  int target = -1;
  int line = 0;
  std::string text;
};

struct Parameter {
  std::string name;
  int offset = 0, size = 0;
};

struct Kernel {
  std::string name;
  std::vector<Parameter> parameters;
  int parameter_bytes = 0;
  std::vector<Instruction> code;
  int registers = 0;
  std::uint64_t static_shared = 0, local_bytes = 0;
  int most_threads = 1024;  ///< .maxntid
};

/// A .global or .const array with its first bytes.
struct Variable {
  std::uint64_t address = 0;
  std::vector<std::uint8_t> data;
};

/// Module variables lie from here on, each in a page range of its own.
inline constexpr std::uint64_t variables_base = 0x6000'0000'0000;

struct Module {
  std::map<std::string, Kernel> kernels;
  std::map<std::string, Variable> variables;
  /// The one kernel whose name contains all of `parts`. Throws Fault when there is none or more than one.
  const Kernel& find(const std::vector<std::string>& parts) const;
};

/// Throws Fault{unsupported} with the line for anything unknown.
Module parse(const std::string& text);
/// The mnemonic's opcode, types and modifiers; every modifier must be known. Throws Fault{unsupported}.
void decode(const std::string& mnemonic, Instruction& instruction);
Type type_from(const std::string& word);  ///< kind 0 when it is no type

}  // namespace cumeta::ptx
