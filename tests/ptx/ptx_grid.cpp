// SPDX-License-Identifier: Apache-2.0
// The emulator's launches run through nvcc's PTX instead of g++'s machine code: with this linked in, the whole emulated
// plugin (host code, streams, graphs, memory) executes the kernels that a GPU would get. CUMETA_PTX_SEED shuffles
// threads anew.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tests/emulator/block_scheduler.h"
#include "tests/emulator/device_state.h"
#include "tests/ptx/kernel_names.h"
#include "tests/ptx/ptx_machine.h"

namespace cumeta::ptx {
namespace {

/// Every kernel of the PTX files named at build time, by its portable name.
class Library {
 public:
  Library() {
    const char* seed = std::getenv("CUMETA_PTX_SEED");
    std::stringstream paths(CUMETA_PTX_FILES);
    for (std::string path; std::getline(paths, path, ':');) {
      std::ifstream file(path);
      std::stringstream text;
      text << file.rdbuf();
      if (!file) throw Fault(FaultKind::launch, "cannot read " + path);
      try {
        const unsigned first = seed == nullptr ? 1 : static_cast<unsigned>(std::atoi(seed));
        machines_.push_back(std::make_unique<Machine>(parse(text.str()), first));
      } catch (const Fault& fault) {  // it matters when one of the file's kernels is launched
        refused_ += "; " + path.substr(path.rfind('/') + 1) + ": " + fault.what();
        continue;
      }
      Machine& machine = *machines_.back();
      machine.memory().set_owner(emulator::find_allocation);
      for (const auto& [name, kernel] : machine.module().kernels)
        kernels_[portable_name(name)].push_back({&machine, &kernel});
    }
  }
  std::pair<Machine*, const Kernel*> find(const void* function) const {
    const std::string name = symbol_at(function);
    const auto found = kernels_.find(portable_name(name));
    if (found == kernels_.end()) throw Fault(FaultKind::launch, "no PTX of the kernel '" + name + "'" + refused_);
    if (found->second.size() > 1)
      throw Fault(FaultKind::launch, "more than one PTX file has the kernel '" + name + "'");
    return found->second[0];
  }

 private:
  std::vector<std::unique_ptr<Machine>> machines_;
  std::string refused_;  ///< files with something that is not understood
  std::map<std::string, std::vector<std::pair<Machine*, const Kernel*>>> kernels_;
};

emulator::Fault run(const emulator::Launch& launch, size_t shared_limit, unsigned long long) {
  emulator::Fault fault;
  const auto size = [](dim3 d) { return Dim{static_cast<int>(d.x), static_cast<int>(d.y), static_cast<int>(d.z)}; };
  try {
    static const Library library;
    const auto [machine, kernel] = library.find(launch.kernel);
    if (kernel->static_shared + launch.dynamic_shared > shared_limit)
      throw Fault(FaultKind::launch,
                  std::to_string(kernel->static_shared + launch.dynamic_shared) + " bytes of shared memory");
    machine->run(*kernel,
                 {.grid = size(launch.grid), .block = size(launch.block), .dynamic_shared = launch.dynamic_shared},
                 launch.arguments);
    machine->memory().forget_owned();
  } catch (const Fault& problem) {
    fault.error = cudaErrorLaunchFailure;
    std::snprintf(fault.text, sizeof fault.text, "%s: %s", launch.name, problem.what());
  }
  return fault;
}

[[maybe_unused]] const bool in_place = (emulator::grid_runner = run, true);

}  // namespace
}  // namespace cumeta::ptx
