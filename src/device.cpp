// SPDX-License-Identifier: Apache-2.0
// Devices by name, and what a plan must know of machines that are here or not.
#include "cumeta/device.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>

#include "cumeta/error.h"
#include "src/host_memory.h"

namespace cumeta {

namespace {

int usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1L, sysconf(_SC_NPROCESSORS_ONLN));
}

struct KnownGpu {
  const char* name;
  int multiprocessors;
  std::int64_t mebibytes;  ///< that the driver shows, error correction on where it is by default
  std::int64_t shared_memory;
  int capability;
  double gflops;
};
constexpr KnownGpu known_gpus[] = {
    {"h100", 132, 81000, 232448, 90, 66900},    {"h200", 132, 143000, 232448, 90, 66900},
    {"a100", 108, 81000, 166912, 80, 19500},    {"l4", 58, 22400, 101376, 89, 30300},
    {"rtx4090", 128, 24200, 101376, 89, 82600}, {"rtx3090", 82, 24200, 101376, 86, 35600},
    {"t4", 40, 14900, 65536, 75, 8100},
};
constexpr std::int64_t context_mebibytes = 512;  // what a process's context and its kernels take before any array

}  // namespace

Machine cpu_machine(int threads) {
  Machine m;
  m.cores = threads > 0 ? threads : usable_cores();
  m.name = fmt::format("cpu, {} thread{}", m.cores, m.cores == 1 ? "" : "s");
  m.memory = host_memory();
  return m;
}

Machine cuda_machine(const std::string& name) {
  std::string known;
  for (const KnownGpu& gpu : known_gpus) {
    if (name == gpu.name)
      return {name,           gpu.multiprocessors, (gpu.mebibytes - context_mebibytes) << 20, gpu.shared_memory,
              gpu.capability, gpu.gflops};
    known += known.empty() ? gpu.name : std::string(", ") + gpu.name;
  }
  throw InvalidArgument(fmt::format("machine {}: not known; choose one of {}", name, known));
}

std::string to_string(Device device) {
  switch (device) {
    case Device::reference:
      return "reference";
    case Device::cpu:
      return "cpu";
    case Device::cuda:
      return "cuda";
  }
  return "?";
}

std::string to_string(Implementation implementation) {
  switch (implementation) {
    case Implementation::own:
      return "own";
    case Implementation::unfused:
      return "unfused";
    case Implementation::vendor:
      return "vendor";
    case Implementation::fastest:
      return "fastest";
  }
  return "?";
}

std::string to_string(Precision precision, Device device) {
  if (device == Device::reference) return "float64";
  return precision == Precision::tf32 ? "tf32" : "float32";
}

Device device_from(const std::string& name) {
  for (Device device : {Device::reference, Device::cpu, Device::cuda})
    if (name == to_string(device)) return device;
  throw InvalidArgument(fmt::format("device {}: not known; choose one of reference, cpu, cuda", name));
}

}  // namespace cumeta
