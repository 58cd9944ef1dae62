// SPDX-License-Identifier: Apache-2.0
// The text that nvcc writes -> Module: declarations, scopes of inline assembly, labels, instructions with operands.
#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "tests/ptx/ptx_module.h"

namespace cumeta::ptx {
namespace {

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

/// Comma-separated parts, brackets and braces kept whole.
std::vector<std::string> parts_of(const std::string& text) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (const char c : text) {
    depth += (c == '{' || c == '[' || c == '(') - (c == '}' || c == ']' || c == ')');
    if (c == ',' && depth == 0)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  for (std::string& part : parts) part = trimmed(part);
  if (parts.size() == 1 && parts[0].empty()) parts.clear();
  return parts;
}

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  for (const char c : text + " ") {
    if (!std::isspace(static_cast<unsigned char>(c))) {
      word += c;
    } else if (!word.empty()) {
      words.push_back(word);
      word.clear();
    }
  }
  return words;
}

bool is_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$' || c == '%'; }

std::uint64_t number_from(const std::string& text) {
  if (text.size() == 10 && (text.rfind("0f", 0) == 0 || text.rfind("0F", 0) == 0))
    return std::strtoull(text.c_str() + 2, nullptr, 16);
  if (text.size() == 18 && (text.rfind("0d", 0) == 0 || text.rfind("0D", 0) == 0))
    return std::strtoull(text.c_str() + 2, nullptr, 16);
  if (text[0] == '-') return static_cast<std::uint64_t>(std::strtoll(text.c_str(), nullptr, 0));
  return std::strtoull(text.c_str(), nullptr, 0);
}

/// ".align 4 .b8 name[64]": an array of bytes.
struct Declaration {
  std::string name;
  Type type;
  std::uint64_t bytes = 0;
  std::uint64_t align = 1;
  bool unsized = false;
};
Declaration declaration_from(const std::vector<std::string>& words) {
  Declaration out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == ".align") {
      out.align = std::strtoull(words.at(++i).c_str(), nullptr, 10);
    } else if (words[i][0] == '.') {
      if (const Type type = type_from(words[i].substr(1)); type.kind != 0) out.type = type;
    } else {
      out.name = words[i];
    }
  }
  out.bytes = static_cast<std::uint64_t>(out.type.bytes());
  out.align = std::max(out.align, out.bytes);
  if (const auto bracket = out.name.find('['); bracket != std::string::npos) {
    const std::uint64_t count = std::strtoull(out.name.c_str() + bracket + 1, nullptr, 10);
    out.unsized = out.name[bracket + 1] == ']';
    out.bytes *= count;
    out.name = out.name.substr(0, bracket);
  }
  return out;
}

std::uint64_t rounded_up(std::uint64_t value, std::uint64_t to) { return (value + to - 1) / to * to; }

class Parser {
 public:
  explicit Parser(const std::string& text) : text_(without_comments(text)) {
    for (std::size_t i = 0; i < text_.size(); ++i)
      if (text_[i] == '\n') line_ends_.push_back(i);
  }

  Module module() {
    while (skip_space(), at_ < text_.size()) {
      if (starts_with(".version") || starts_with(".target") || starts_with(".address_size") || starts_with(".file"))
        at_ = std::min(text_.find('\n', at_), text_.size());
      else if (const std::string head = head_of_item(); head.find(".entry") != std::string::npos)
        entry(head);
      else if (head.find(".shared") != std::string::npos)
        shared_of_module(head);
      else if (head.find(".global") != std::string::npos || head.find(".const") != std::string::npos)
        variable();
      else
        refuse(head);
    }
    return std::move(module_);
  }

 private:
  static std::string without_comments(const std::string& text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text.compare(i, 2, "//") == 0) {
        while (i < text.size() && text[i] != '\n') ++i;
        out += '\n';
      } else if (text.compare(i, 2, "/*") == 0) {
        i = text.find("*/", i) + 1;
      } else {
        out += text[i];
      }
    }
    return out;
  }
  [[noreturn]] void refuse(const std::string& what) const {
    throw Fault(FaultKind::unsupported, "line " + std::to_string(line()) + ": not understood: " + what.substr(0, 120));
  }
  int line() const {
    return static_cast<int>(std::lower_bound(line_ends_.begin(), line_ends_.end(), at_) - line_ends_.begin()) + 1;
  }
  void skip_space() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  bool starts_with(const char* word) const {
    return text_.compare(at_, std::char_traits<char>::length(word), word) == 0;
  }
  std::string head_of_item() const { return text_.substr(at_, text_.find_first_of(";{", at_) - at_); }
  std::string up_to(char end) {
    const auto stop = text_.find(end, at_);
    if (stop == std::string::npos) refuse("the end of the text");
    std::string part = trimmed(text_.substr(at_, stop - at_));
    at_ = stop + 1;
    return part;
  }

  void shared_of_module(const std::string& head) {
    const Declaration declared = declaration_from(words_of(head));
    if (declared.unsized)
      dynamic_.push_back(declared.name);
    else
      module_shared_[declared.name] = declared;
    up_to(';');
  }

  void variable() {
    std::string text = up_to(';');
    std::string initial;
    if (const auto equal = text.find('='); equal != std::string::npos) {
      initial = trimmed(text.substr(equal + 1));
      text = text.substr(0, equal);
    }
    const Declaration declared = declaration_from(words_of(text));
    Variable& variable = module_.variables[declared.name];
    variable.address = variables_base + module_.variables.size() * 0x1'0000'0000;
    variable.data.resize(declared.bytes);
    if (!initial.empty() && initial[0] == '{') initial = initial.substr(1, initial.size() - 2);
    std::size_t offset = 0;
    for (const std::string& part : parts_of(initial)) {
      const std::uint64_t number = number_from(part);
      for (int byte = 0; byte < declared.type.bytes(); ++byte)
        variable.data.at(offset++) = static_cast<std::uint8_t>(number >> (8 * byte));
    }
  }

  void entry(const std::string& head) {
    kernel_ = Kernel{};
    scopes_.assign(1, {});
    locals_.clear();
    labels_.clear();
    jumps_.clear();
    const auto open = head.find('('), close = head.rfind(')');
    const std::string before = head.substr(0, open);
    kernel_.name = words_of(before.substr(before.find(".entry") + 6)).at(0);
    if (open != std::string::npos)
      for (const std::string& part : parts_of(head.substr(open + 1, close - open - 1))) {
        const Declaration declared = declaration_from(words_of(part));
        const auto offset = rounded_up(static_cast<std::uint64_t>(kernel_.parameter_bytes), declared.align);
        kernel_.parameters.push_back({declared.name, static_cast<int>(offset), static_cast<int>(declared.bytes)});
        kernel_.parameter_bytes = static_cast<int>(offset + declared.bytes);
      }
    launch_bounds(head.substr(close + 1));
    at_ += head.size() + 1;
    for (int depth = 1; depth > 0;) {
      skip_space();
      if (text_[at_] == '{') {
        scopes_.emplace_back();
        ++depth, ++at_;
      } else if (text_[at_] == '}') {
        scopes_.pop_back();
        --depth, ++at_;
      } else {
        statement();
      }
    }
    for (const auto& [index, label] : jumps_) {
      if (!labels_.count(label)) refuse("a jump to " + label);
      kernel_.code[index].target = labels_.at(label);
    }
    // Dynamic shared memory begins where the static arrays end.
    kernel_.static_shared = rounded_up(kernel_.static_shared, 16);
    module_.kernels[kernel_.name] = std::move(kernel_);
  }

  void launch_bounds(std::string text) {
    std::replace(text.begin(), text.end(), ',', ' ');
    const std::vector<std::string> words = words_of(text);
    for (std::size_t i = 0; i < words.size(); ++i)
      if (words[i] == ".maxntid" || words[i] == ".reqntid") {
        kernel_.most_threads = 1;
        for (std::size_t j = i + 1; j < words.size() && words[j][0] != '.'; ++j)
          kernel_.most_threads *= std::atoi(words[j].c_str());
      }
  }

  void statement() {
    std::size_t end = at_;
    while (end < text_.size() && is_name(text_[end])) ++end;
    if (end > at_ && text_[end] == ':') {
      labels_[text_.substr(at_, end - at_)] = static_cast<int>(kernel_.code.size());
      at_ = end + 1;
      return;
    }
    if (starts_with(".loc\t") || starts_with(".loc ")) {
      at_ = text_.find('\n', at_);
      return;
    }
    const int number = line();
    const std::string text = up_to(';');
    if (text.empty() || text.rfind(".pragma", 0) == 0) return;
    if (text[0] == '.')
      declare(text);
    else
      instruction(text, number);
  }

  void declare(const std::string& text) {
    std::vector<std::string> words = words_of(text);
    if (words[0] == ".reg") {
      for (const std::string& name : parts_of(text.substr(text.find(words[1]) + words[1].size()))) {
        const auto angle = name.find('<');
        if (angle == std::string::npos) {
          scopes_.back()[name] = kernel_.registers++;
          continue;
        }
        for (int i = 0; i < std::atoi(name.c_str() + angle + 1); ++i)
          scopes_.back()[name.substr(0, angle) + std::to_string(i)] = kernel_.registers++;
      }
      return;
    }
    const Declaration declared = declaration_from(words);
    if (words[0] == ".shared") {
      place_shared(declared);
    } else if (words[0] == ".local") {
      kernel_.local_bytes = rounded_up(kernel_.local_bytes, std::max<std::uint64_t>(declared.align, 16));
      locals_[declared.name] = kernel_.local_bytes;
      kernel_.local_bytes += declared.bytes;
    } else {
      refuse(text);
    }
  }
  std::uint64_t place_shared(const Declaration& declared) {
    kernel_.static_shared = rounded_up(kernel_.static_shared, std::max<std::uint64_t>(declared.align, 1));
    const std::uint64_t offset = locals_[declared.name] = kernel_.static_shared;
    kernel_.static_shared += declared.bytes;
    return offset;
  }

  void instruction(std::string text, int number) {
    Instruction out;
    out.line = number;
    out.text = text;
    try {
      if (text[0] == '@') {
        const auto space = text.find_first_of(" \t");
        out.guard_negated = text[1] == '!';
        out.guard = operand(text.substr(out.guard_negated ? 2 : 1, space - (out.guard_negated ? 2 : 1))).reg;
        text = trimmed(text.substr(space));
      }
      const auto space = text.find_first_of(" \t\n");
      const std::string rest = space == std::string::npos ? "" : trimmed(text.substr(space));
      decode(text.substr(0, space), out);
      if (out.op == Op::bra)
        jumps_.emplace_back(kernel_.code.size(), rest);
      else
        for (const std::string& part : parts_of(rest)) out.operands.push_back(operand(part));
    } catch (const Fault& fault) {
      throw Fault(FaultKind::unsupported, "line " + std::to_string(number) + ": " + fault.what());
    }
    kernel_.code.push_back(std::move(out));
  }

  Operand operand(const std::string& text) {
    Operand out;
    if (text.empty()) refuse("an empty operand");
    if (text == "_") return out;
    if (text[0] == '{') {
      out.kind = Operand::Kind::list;
      for (const std::string& part : parts_of(text.substr(1, text.size() - 2))) out.list.push_back(operand(part));
      return out;
    }
    if (text[0] == '[') return address(text.substr(1, text.size() - 2));
    if (text[0] == '!') {
      out = operand(text.substr(1));
      out.negated = true;
      return out;
    }
    if (const auto bar = text.find('|'); bar != std::string::npos) {
      out = operand(text.substr(0, bar));
      out.reg2 = operand(text.substr(bar + 1)).reg;
      return out;
    }
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
      if (const auto found = scope->find(text); found != scope->end()) {
        out.kind = Operand::Kind::reg;
        out.reg = found->second;
        return out;
      }
    const auto special = std::find(special_registers.begin(), special_registers.end(), text);
    if (special != special_registers.end()) {
      out.kind = Operand::Kind::special;
      out.value = static_cast<std::uint64_t>(special - special_registers.begin());
      return out;
    }
    out.kind = Operand::Kind::immediate;
    if (std::isdigit(static_cast<unsigned char>(text[0])) || text[0] == '-') {
      out.value = number_from(text);
    } else if (std::find(dynamic_.begin(), dynamic_.end(), text) != dynamic_.end()) {
      out.kind = Operand::Kind::dynamic_shared;
    } else {
      out.value = symbol(text);
    }
    return out;
  }

  Operand address(const std::string& text) {
    const auto plus = text.find('+');
    Operand out = operand(trimmed(text.substr(0, plus)));
    out.dynamic = out.kind == Operand::Kind::dynamic_shared;
    out.kind = Operand::Kind::address;
    if (plus != std::string::npos) out.value += number_from(trimmed(text.substr(plus + 1)));
    return out;
  }

  std::uint64_t symbol(const std::string& name) {
    for (const Parameter& parameter : kernel_.parameters)
      if (parameter.name == name) return static_cast<std::uint64_t>(parameter.offset);
    if (const auto found = locals_.find(name); found != locals_.end()) return found->second;
    if (const auto found = module_shared_.find(name); found != module_shared_.end()) return place_shared(found->second);
    if (const auto found = module_.variables.find(name); found != module_.variables.end()) return found->second.address;
    refuse("the name " + name);
  }

  std::string text_;
  std::vector<std::size_t> line_ends_;
  std::size_t at_ = 0;
  Module module_;
  Kernel kernel_;
  std::vector<std::string> dynamic_;
  std::map<std::string, Declaration> module_shared_;
  std::vector<std::map<std::string, int>> scopes_;
  std::map<std::string, std::uint64_t> locals_;  ///< offsets of shared and local arrays of the kernel
  std::map<std::string, int> labels_;
  std::vector<std::pair<std::size_t, std::string>> jumps_;
};

}  // namespace

Module parse(const std::string& text) { return Parser(text).module(); }

const Kernel& Module::find(const std::vector<std::string>& parts) const {
  const Kernel* found = nullptr;
  std::string wanted;
  for (const std::string& part : parts) wanted += (wanted.empty() ? "" : " and ") + part;
  for (const auto& [name, kernel] : kernels) {
    if (!std::all_of(parts.begin(), parts.end(),
                     [&](const auto& part) { return name.find(part) != std::string::npos; }))
      continue;
    if (found != nullptr) throw Fault(FaultKind::launch, "more than one kernel has " + wanted + " in its name");
    found = &kernel;
  }
  if (found == nullptr) throw Fault(FaultKind::launch, "no kernel has " + wanted + " in its name");
  return *found;
}

}  // namespace cumeta::ptx
