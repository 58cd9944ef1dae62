// SPDX-License-Identifier: Apache-2.0
// cumeta info: the version, the CPU's SIMD target, and every device with the reason why one is not there.
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
    if (*json) {
      nlohmann::json list = nlohmann::json::array();
      for (const DeviceStatus& device : devices)
        list.push_back({{"device", to_string(device.device)}, {"available", device.available}, {"text", device.text}});
      print_json({{"version", CUMETA_VERSION},
                  {"simd", simd_target()},
                  {"cores", machine.cores},
                  {"memory", machine.memory},
                  {"devices", list}});
      return;
    }
    fmt::print("cumeta {}\nSIMD target {}, {} cores, {}\n", CUMETA_VERSION, simd_target(), machine.cores,
               bytes_text(machine.memory));
    for (const DeviceStatus& device : devices)
      fmt::print("{:<10} {:<14} {}\n", to_string(device.device), device.available ? "available" : "not available",
                 device.text);
  });
}

}  // namespace cumeta::app
