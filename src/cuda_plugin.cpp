// SPDX-License-Identifier: Apache-2.0
// Finds, checks and loads the CUDA plugin on the first request; the library itself links nothing of CUDA.
#include "src/cuda_plugin.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "cumeta/error.h"
#include "kernels/plugin_memory.h"
#include "kernels/vendor_calls.h"
#include "plugin_build_id.h"

namespace cumeta {
namespace {

constexpr const char* kPluginFile = "libcumeta_cuda.so";
constexpr const char* kPluginVariable = "CUMETA_CUDA_PLUGIN";
constexpr const char* kVendorFile = "libcumeta_cuda_vendor.so";
constexpr const char* kVendorVariable = "CUMETA_CUDA_VENDOR_PLUGIN";

/// Called by the plugin: the exception unwinds through its frames to the host's catch.
void raise_in_host(ErrorKind kind, const char* text) {
  switch (kind) {
    case ErrorKind::invalid_argument:
      throw InvalidArgument(text);
    case ErrorKind::device_unavailable:
      throw DeviceUnavailable(text);
    case ErrorKind::driver_missing:
      throw DriverMissing(text);
    case ErrorKind::driver_too_old:
      throw DriverTooOld(text);
    case ErrorKind::device_missing:
      throw DeviceMissing(text);
    case ErrorKind::device_unsupported:
      throw DeviceUnsupported(text);
    case ErrorKind::plugin_mismatch:
      throw PluginMismatch(text);
    case ErrorKind::out_of_memory:
      throw OutOfMemory(text);
    case ErrorKind::device_fault:
      break;
  }
  throw DeviceFault(text);
}
constexpr Host kHost{&raise_in_host};

/// The folder of the library or program that holds this code.
std::filesystem::path own_folder() {
  Dl_info info{};
  if (!dladdr(&kHost, &info) || !info.dli_fname) return ".";
  std::error_code failed;
  const std::filesystem::path file = std::filesystem::canonical(info.dli_fname, failed);
  return failed ? std::filesystem::path(".") : file.parent_path();
}

const char* named(const char* variable) {
  const char* path = std::getenv(variable);
  return path && *path ? path : nullptr;
}
const char* named_plugin() { return named(kPluginVariable); }

/// The file that the variable names, or the one of that name beside the library.
std::filesystem::path path_of(const char* variable, const char* name) {
  if (const char* path = named(variable)) return path;
  const std::filesystem::path folder = own_folder();
  std::error_code failed;
  // A program that holds the library's code itself lies in bin, the plugin in lib beside it.
  std::filesystem::path beside = folder.parent_path() / "lib" / name;
  if (!std::filesystem::exists(folder / name, failed) && std::filesystem::exists(beside, failed)) return beside;
  return folder / name;
}
std::filesystem::path plugin_path() { return path_of(kPluginVariable, kPluginFile); }

/// Whether there is a driver at all, without the cost of starting it.
void require_driver() {
  static const bool found = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) != nullptr;
  if (!found)
    throw DriverMissing(
        "cuda: no NVIDIA driver on this machine (libcuda.so.1 cannot be loaded); install one, or use --device cpu");
}

struct Plugin {
  std::filesystem::path path;
  void* library = nullptr;
  bool emulated = false;
  PluginDevices devices = nullptr;
  PluginFreeMemory free_memory = nullptr;
  PluginOpen open = nullptr;
};

template <class F>
F symbol(void* library, const std::filesystem::path& path, const char* name) {
  void* found = dlsym(library, name);
  if (!found)
    throw PluginMismatch(fmt::format("cuda: {} is no plugin of this library: it has no {}; install both from one build",
                                     path.string(), name));
  return reinterpret_cast<F>(found);
}

void require_same_build(void* library, const std::filesystem::path& path) {
  const char* build_id = symbol<PluginBuildId>(library, path, "cumeta_plugin_build_id")();
  if (std::strcmp(build_id, CUMETA_PLUGIN_BUILD_ID) != 0)
    throw PluginMismatch(
        fmt::format("cuda: the plugin {} is of build {}, the library of build {}; install both from "
                    "one build",
                    path.string(), build_id, CUMETA_PLUGIN_BUILD_ID));
}

Plugin load_plugin() {
  // The default plugin is asked for only where a driver is; one that is named may be the emulator's, which needs none.
  if (!named_plugin()) require_driver();
  Plugin plugin;
  plugin.path = plugin_path();
  std::error_code failed;
  if (!std::filesystem::exists(plugin.path, failed))
    throw PluginMissing(named_plugin() ? fmt::format("cuda: {}={}: no such file", kPluginVariable, plugin.path.string())
                                       : fmt::format("cuda: no plugin at {}; build it (cmake --build --preset release, "
                                                     "nvcc at hand), install it beside the library, or name "
                                                     "it in {}",
                                                     plugin.path.string(), kPluginVariable));
  // Never closed: backends, and exceptions on their way, hold its code.
  void* library = dlopen(plugin.path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* reason = dlerror();
    throw PluginMissing(fmt::format("cuda: the plugin {} cannot be loaded: {}", plugin.path.string(),
                                    reason ? reason : "no reason given"));
  }
  plugin.library = library;
  require_same_build(library, plugin.path);
  plugin.emulated = symbol<PluginIsEmulated>(library, plugin.path, "cumeta_plugin_is_emulated")() != 0;
  plugin.devices = symbol<PluginDevices>(library, plugin.path, "cumeta_plugin_devices");
  plugin.free_memory = symbol<PluginFreeMemory>(library, plugin.path, "cumeta_plugin_free_memory");
  plugin.open = symbol<PluginOpen>(library, plugin.path, "cumeta_open_backend");
  if (!plugin.emulated) require_driver();
  return plugin;
}

/// Where the vendor plugin is: a file of its own, or the emulator's, which brings models of the libraries.
std::filesystem::path vendor_path(const Plugin& cuda) {
  return cuda.emulated && !named(kVendorVariable) ? cuda.path : path_of(kVendorVariable, kVendorFile);
}

/// cuBLAS and cuDNN through the vendor plugin, loaded here and now.
VendorOpen load_vendor(const Plugin& cuda) {
  const std::filesystem::path path = vendor_path(cuda);
  if (path == cuda.path) return symbol<VendorOpen>(cuda.library, path, "cumeta_open_vendor");
  constexpr const char* instead = "or set plan.implementation = \"own\"";
  std::error_code failed;
  if (!std::filesystem::exists(path, failed))
    throw PluginMissing(fmt::format(
        "cuda: no vendor plugin at {}; build with cuBLAS and cuDNN at hand (-DCUMETA_VENDOR=ON), install it "
        "beside the library, name it in {}, {}",
        path.string(), kVendorVariable, instead));
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* reason = dlerror();
    throw PluginMissing(fmt::format(
        "cuda: the vendor plugin {} cannot be loaded: {}; install cuBLAS 13 and cuDNN 9, put their folder in "
        "LD_LIBRARY_PATH, {}",
        path.string(), reason ? reason : "no reason given", instead));
  }
  const auto open = symbol<VendorOpen>(library, path, "cumeta_open_vendor");
  require_same_build(library, path);
  if (cuda.emulated)
    throw PluginMismatch(
        fmt::format("cuda: {} needs a GPU, {} is an emulator; unset {} to use the emulator's own models", path.string(),
                    cuda.path.string(), kVendorVariable));
  return open;
}

VendorQueue* open_vendor_queue(const VendorOptions& options) { return load_vendor(load_plugin())(&kHost, &options); }

}  // namespace

std::unique_ptr<Backend> open_cuda(const CudaOptions& given) {
  const Plugin plugin = load_plugin();
  CudaOptions options = given;
  if (options.vendor) {
    load_vendor(plugin);  // what is missing shows before a device is opened
    options.open_vendor = &open_vendor_queue;
  }
  return std::unique_ptr<Backend>(plugin.open(CUMETA_PLUGIN_BUILD_ID, &kHost, &options));
}

std::vector<PluginStatus> plugin_status() {
  std::vector<PluginStatus> list{{"cuda", plugin_path().string(), {}},
                                 {"cuda_vendor", path_of(kVendorVariable, kVendorFile).string(), {}}};
  try {
    const Plugin plugin = load_plugin();
    list[1].path = vendor_path(plugin).string();
    try {
      load_vendor(plugin);
    } catch (const Error& error) { list[1].problem = error.what(); }
  } catch (const Error& error) { list[0].problem = list[1].problem = error.what(); }
  return list;
}

namespace {

std::vector<CudaDevice> devices_of(const Plugin& plugin) {
  std::vector<CudaDevice> devices(64);
  const int count = plugin.devices(&kHost, devices.data(), static_cast<int>(devices.size()));
  devices.resize(std::min(devices.size(), static_cast<std::size_t>(count)));
  return devices;
}

}  // namespace

Machine cuda_machine(int ordinal) {
  const Plugin plugin = load_plugin();
  Machine machine;
  machine.memory = static_cast<std::int64_t>(plugin.free_memory(&kHost, ordinal));  // says what an ordinal may be
  const CudaDevice device = devices_of(plugin).at(static_cast<std::size_t>(ordinal));
  machine.name = device.name;
  machine.cores = device.multiprocessors;
  machine.shared_memory = static_cast<std::int64_t>(device.shared_memory);
  machine.compute_capability = device.capability;
  const int lanes = device.capability <= 80 ? 64 : 128;  // FP32 units of a multiprocessor
  machine.fma_peak_gflops = 2e-6 * lanes * device.multiprocessors * device.clock_khz;
  return machine;
}

CudaStatus cuda_status() {
  CudaStatus status;
  status.plugin = plugin_path().string();
  try {
    const Plugin plugin = load_plugin();
    status.emulated = plugin.emulated;
    status.devices = devices_of(plugin);
  } catch (const Error& error) {
    status.devices.clear();
    status.problem = error.what();
  }
  return status;
}

}  // namespace cumeta
