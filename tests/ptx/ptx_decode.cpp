// SPDX-License-Identifier: Apache-2.0
// Mnemonics: "ld.global.nc.v4.f32" becomes an opcode, types and modifiers; a word that is not known is an error.
#include <functional>
#include <map>

#include "tests/ptx/ptx_module.h"

namespace cumeta::ptx {
namespace {

std::vector<std::string> words_of(const std::string& mnemonic) {
  std::vector<std::string> words(1);
  for (const char c : mnemonic) {
    if (c == '.')
      words.emplace_back();
    else
      words.back() += c;
  }
  return words;
}

const std::map<std::string, Op>& opcodes() {
  static const std::map<std::string, Op> table = {{"mov", Op::mov},      {"add", Op::add},
                                                  {"sub", Op::sub},      {"mul", Op::mul},
                                                  {"mad", Op::mad},      {"fma", Op::fma},
                                                  {"div", Op::div},      {"rem", Op::rem},
                                                  {"min", Op::min},      {"max", Op::max},
                                                  {"neg", Op::neg},      {"abs", Op::abs},
                                                  {"and", Op::bit_and},  {"or", Op::bit_or},
                                                  {"xor", Op::bit_xor},  {"not", Op::bit_not},
                                                  {"shl", Op::shl},      {"shr", Op::shr},
                                                  {"setp", Op::setp},    {"selp", Op::selp},
                                                  {"cvt", Op::cvt},      {"sqrt", Op::sqrt},
                                                  {"rsqrt", Op::rsqrt},  {"rcp", Op::rcp},
                                                  {"ex2", Op::ex2},      {"lg2", Op::lg2},
                                                  {"sin", Op::sin},      {"cos", Op::cos},
                                                  {"tanh", Op::tanh},    {"copysign", Op::copysign},
                                                  {"popc", Op::popc},    {"clz", Op::clz},
                                                  {"brev", Op::brev},    {"bfind", Op::bfind},
                                                  {"bfe", Op::bfe},      {"bfi", Op::bfi},
                                                  {"prmt", Op::prmt},    {"lop3", Op::lop3},
                                                  {"shf", Op::shf},      {"cvta", Op::cvta},
                                                  {"ld", Op::ld},        {"ldu", Op::ld},
                                                  {"st", Op::st},        {"atom", Op::atom},
                                                  {"red", Op::red},      {"membar", Op::fence},
                                                  {"fence", Op::fence},  {"bra", Op::bra},
                                                  {"ret", Op::ret},      {"exit", Op::ret},
                                                  {"bar", Op::bar_sync}, {"barrier", Op::bar_sync},
                                                  {"trap", Op::trap},    {"shfl", Op::shfl},
                                                  {"vote", Op::vote},    {"activemask", Op::activemask},
                                                  {"mma", Op::mma}};
  return table;
}

/// Modifiers that several opcodes share and what they set.
bool common(const std::string& word, Instruction& out) {
  if (word == "ftz") return out.flush = true;
  if (word == "sat") return out.saturate = true;
  if (word == "lo") return out.half = Half::lo, true;
  if (word == "hi") return out.half = Half::hi, true;
  if (word == "wide") return out.half = Half::wide, true;
  if (word == "v2") return out.vector = 2, true;
  if (word == "v4") return out.vector = 4, true;
  // Approximations are computed as well as the host can; their error is bounded by the tolerance of whoever asks.
  if (word == "approx" || word == "full") return true;
  static const std::map<std::string, Rounding> roundings = {
      {"rn", Rounding::nearest}, {"rz", Rounding::zero},     {"rm", Rounding::down},
      {"rp", Rounding::up},      {"rni", Rounding::nearest}, {"rzi", Rounding::zero},
      {"rmi", Rounding::down},   {"rpi", Rounding::up},      {"rna", Rounding::nearest}};
  if (const auto found = roundings.find(word); found != roundings.end()) {
    out.rounding = found->second;
    out.integral = word.size() == 3 && word.back() == 'i';
    return true;
  }
  static const std::map<std::string, Space> spaces = {{"global", Space::global},      {"shared", Space::shared},
                                                      {"shared::cta", Space::shared}, {"local", Space::local},
                                                      {"param", Space::param},        {"const", Space::constant}};
  if (const auto found = spaces.find(word); found != spaces.end()) return out.space = found->second, true;
  return false;
}

template <class Value>
bool pick(const std::string& word, const std::map<std::string, Value>& table, Value& value) {
  const auto found = table.find(word);
  if (found == table.end()) return false;
  value = found->second;
  return true;
}

bool any_of(const std::string& word, std::initializer_list<const char*> known) {
  for (const char* candidate : known)
    if (word == candidate) return true;
  return false;
}

/// Modifiers that mean something to one opcode only.
bool own(const std::string& word, Instruction& out) {
  static const std::map<std::string, Compare> compares = {
      {"eq", Compare::eq},   {"ne", Compare::ne},   {"lt", Compare::lt},   {"le", Compare::le},   {"gt", Compare::gt},
      {"ge", Compare::ge},   {"lo", Compare::lt},   {"ls", Compare::le},   {"hs", Compare::ge},   {"equ", Compare::equ},
      {"neu", Compare::neu}, {"ltu", Compare::ltu}, {"leu", Compare::leu}, {"gtu", Compare::gtu}, {"geu", Compare::geu},
      {"num", Compare::num}, {"nan", Compare::nan}, {"hi", Compare::gt}};
  static const std::map<std::string, char> combines = {{"and", '&'}, {"or", '|'}, {"xor", '^'}};
  static const std::map<std::string, Atomic> atomics = {
      {"add", Atomic::add}, {"min", Atomic::min},     {"max", Atomic::max},   {"exch", Atomic::exch},
      {"cas", Atomic::cas}, {"and", Atomic::bit_and}, {"or", Atomic::bit_or}, {"xor", Atomic::bit_xor},
      {"inc", Atomic::inc}, {"dec", Atomic::dec}};
  static const std::map<std::string, Shuffle> shuffles = {
      {"up", Shuffle::up}, {"down", Shuffle::down}, {"bfly", Shuffle::bfly}, {"idx", Shuffle::idx}};
  static const std::map<std::string, Vote> votes = {
      {"all", Vote::all}, {"any", Vote::any}, {"uni", Vote::uni}, {"ballot", Vote::ballot}};
  switch (out.op) {
    case Op::setp:
      return pick(word, compares, out.compare) || pick(word, combines, out.combine);
    case Op::atom:
    case Op::red:
      return pick(word, atomics, out.atomic) || any_of(word, {"relaxed", "gpu", "cta", "sys", "noftz"});
    case Op::shfl:
      return word == "sync" || pick(word, shuffles, out.shuffle);
    case Op::vote:
      return word == "sync" || pick(word, votes, out.vote);
    case Op::shf:
      if (word == "l" || word == "r") return out.left = word == "l", true;
      if (word == "wrap" || word == "clamp") return out.wrap = word == "wrap", true;
      return false;
    case Op::bra:
      return word == "uni";
    case Op::ld:
    case Op::st:
      if (any_of(word, {"volatile", "relaxed"})) return out.strong = true;
      return any_of(word, {"nc", "weak", "gpu", "cta", "ca", "cg", "cs", "lu", "cv", "wb", "wt"}) ||
             word.rfind("L1::", 0) == 0 || word.rfind("L2::", 0) == 0;
    case Op::fence:
      return any_of(word, {"gl", "cta", "sys", "sc", "acq_rel", "gpu"});
    case Op::bar_sync:
      return any_of(word, {"sync", "aligned", "cta"});
    case Op::lop3:
    case Op::prmt:
    case Op::activemask:
      return false;
    case Op::cvta:
      if (word == "to") return out.op = Op::cvta_to, true;
      return false;
    case Op::mma:
      return any_of(word, {"sync", "aligned", "m16n8k8", "row", "col"});
    default:
      return false;
  }
}

}  // namespace

Type type_from(const std::string& word) {
  static const std::map<std::string, Type> types = {
      {"u8", {'u', 8}},   {"u16", {'u', 16}}, {"u32", {'u', 32}}, {"u64", {'u', 64}},
      {"s8", {'s', 8}},   {"s16", {'s', 16}}, {"s32", {'s', 32}}, {"s64", {'s', 64}},
      {"b8", {'b', 8}},   {"b16", {'b', 16}}, {"b32", {'b', 32}}, {"b64", {'b', 64}},
      {"f32", {'f', 32}}, {"f64", {'f', 64}}, {"pred", {'p', 1}}, {"tf32", {'t', 32}}};
  const auto found = types.find(word);
  return found == types.end() ? Type{} : found->second;
}

void decode(const std::string& mnemonic, Instruction& out) {
  const auto refuse = [&] { throw Fault(FaultKind::unsupported, "unknown instruction " + mnemonic); };
  if (mnemonic.rfind("cp.async.", 0) == 0) {
    if (mnemonic == "cp.async.commit_group")
      out.op = Op::cp_async_commit;
    else if (mnemonic == "cp.async.wait_group" || mnemonic == "cp.async.wait_all")
      out.op = Op::cp_async_wait, out.wait_all = mnemonic == "cp.async.wait_all";
    else if (mnemonic.rfind("cp.async.ca.shared.global", 0) == 0 ||
             mnemonic.rfind("cp.async.cg.shared.global", 0) == 0 ||
             mnemonic.rfind("cp.async.ca.shared::cta.global", 0) == 0 ||
             mnemonic.rfind("cp.async.cg.shared::cta.global", 0) == 0)
      out.op = Op::cp_async;
    else
      refuse();
    return;
  }
  if (mnemonic == "bar.warp.sync") {
    out.op = Op::warp_sync;
    return;
  }
  const std::vector<std::string> words = words_of(mnemonic);
  const auto opcode = opcodes().find(words[0]);
  if (opcode == opcodes().end()) refuse();
  out.op = opcode->second;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (const Type type = type_from(word); type.kind != 0) {
      if (out.type.kind == 0) out.type = type;
      out.source = type;
    } else if (!own(word, out) && !common(word, out)) {
      refuse();
    }
  }
  if (out.op == Op::bar_sync && (words.size() < 2 || words[1] == "cta" || mnemonic.find("sync") == std::string::npos))
    refuse();
}

}  // namespace cumeta::ptx
