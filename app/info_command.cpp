// SPDX-License-Identifier: Apache-2.0
// cumeta info: the version, the CPU's SIMD target, and every device and plugin with the reason why one is not there.
#include <fmt/format.h>

#include <memory>

#include "app/command.h"
#include "cumeta/device.h"
#include "cumeta/version.h"

namespace cumeta::app {

void add_info(CLI::App& program) {
  CLI::App* command = program.add_subcommand("info", "Version, SIMD target, devices and why one is not available");
  command->footer("Example:\n  cumeta info --json");
  auto json = std::make_shared<bool>(false);
  add_json_option(*command, *json);
  command->callback([json] {
    const Machine machine = cpu_machine();
    const std::vector<DeviceStatus> devices = device_status();
    const std::vector<PluginStatus> plugins = plugin_status();
    if (*json) {
      nlohmann::json list = nlohmann::json::array();
      for (const DeviceStatus& device : devices)
        list.push_back({{"device", to_string(device.device)}, {"available", device.available}, {"text", device.text}});
      nlohmann::json plugin_list = nlohmann::json::array();
      for (const PluginStatus& plugin : plugins)
        plugin_list.push_back({{"plugin", plugin.name},
                               {"path", plugin.path},
                               {"loads", plugin.problem.empty()},
                               {"problem", plugin.problem}});
      print_json({{"version", CUMETA_VERSION},
                  {"simd", simd_target()},
                  {"cores", machine.cores},
                  {"memory", machine.memory},
                  {"devices", list},
                  {"plugins", plugin_list}});
      return;
    }
    fmt::print("cumeta {}\nSIMD target {}, {} cores, {}\n", CUMETA_VERSION, simd_target(), machine.cores,
               bytes_text(machine.memory));
    for (const DeviceStatus& device : devices)
      fmt::print("{:<10} {:<14} {}\n", to_string(device.device), device.available ? "available" : "not available",
                 device.text);
    for (const PluginStatus& plugin : plugins)
      fmt::print("plugin {:<14} {:<12} {}\n", plugin.name, plugin.problem.empty() ? "loads" : "does not load",
                 plugin.problem.empty() ? plugin.path : plugin.problem);
  });
}

}  // namespace cumeta::app
