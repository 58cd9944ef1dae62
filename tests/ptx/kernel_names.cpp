// SPDX-License-Identifier: Apache-2.0
// ELF symbol tables, read for the names of functions that no other file sees.
#include "tests/ptx/kernel_names.h"

#include <dlfcn.h>
#include <elf.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <vector>

namespace cumeta::ptx {
namespace {

/// Functions of an ELF file by their offset from where it is loaded.
std::map<std::uint64_t, std::string> functions_in(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes(std::istreambuf_iterator<char>(file), {});
  std::map<std::uint64_t, std::string> functions;
  Elf64_Ehdr header;
  if (bytes.size() < sizeof header) return functions;
  std::memcpy(&header, bytes.data(), sizeof header);
  const auto section = [&](std::size_t index) {
    Elf64_Shdr out;
    std::memcpy(&out, bytes.data() + header.e_shoff + index * header.e_shentsize, sizeof out);
    return out;
  };
  for (std::size_t index = 0; index < header.e_shnum; ++index) {
    const Elf64_Shdr symbols = section(index);
    if (symbols.sh_type != SHT_SYMTAB) continue;
    const char* names = bytes.data() + section(symbols.sh_link).sh_offset;
    for (std::uint64_t at = 0; at < symbols.sh_size; at += sizeof(Elf64_Sym)) {
      Elf64_Sym symbol;
      std::memcpy(&symbol, bytes.data() + symbols.sh_offset + at, sizeof symbol);
      if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && symbol.st_value != 0)
        functions[symbol.st_value] = names + symbol.st_name;
    }
  }
  return functions;
}

}  // namespace

std::string symbol_at(const void* function) {
  Dl_info info;
  if (dladdr(function, &info) == 0) return "";
  static std::map<std::string, std::map<std::uint64_t, std::string>> files;
  if (!files.count(info.dli_fname)) files[info.dli_fname] = functions_in(info.dli_fname);
  const auto& functions = files[info.dli_fname];
  const auto base = reinterpret_cast<std::uint64_t>(info.dli_fbase),
             address = reinterpret_cast<std::uint64_t>(function);
  // A program that is not position-independent has absolute addresses in its table.
  for (const std::uint64_t at : {address - base, address})
    if (const auto found = functions.find(at); found != functions.end()) return found->second;
  return "";
}

std::string portable_name(const std::string& mangled) {
  const std::string unnamed = "_GLOBAL__N_";
  std::string out;
  for (std::size_t i = 0; i < mangled.size();) {
    // <length>_GLOBAL__N_...: a number too long is one that follows a template's number, as in "Li412_GLOBAL".
    std::size_t digits = i;
    while (digits < mangled.size() && std::isdigit(static_cast<unsigned char>(mangled[digits])) != 0) ++digits;
    if (digits > i && mangled.compare(digits, unnamed.size(), unnamed) == 0) {
      out += '@';
      i = digits + std::stoul(mangled.substr(i, digits - i));
    } else {
      const std::size_t next = std::max(digits, i + 1);
      out += mangled.substr(i, next - i);
      i = next;
    }
  }
  return out;
}

}  // namespace cumeta::ptx
