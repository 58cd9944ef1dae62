// SPDX-License-Identifier: Apache-2.0
// What a kernel's host function is called in the PTX: both compilers mangle alike, but for unnamed namespaces.
#pragma once
#include <string>

namespace cumeta::ptx {

/// The mangled name of the function at this address, of any linkage, by the symbol table of the file that it was loaded
/// from; empty when the table has none.
std::string symbol_at(const void* function);
/// The name with every unnamed namespace written as "@".
std::string portable_name(const std::string& mangled);

}  // namespace cumeta::ptx
