// SPDX-License-Identifier: Apache-2.0
// cumeta selftest: the device proves itself; a table, and exit status 1 if a row fails.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "app/command.h"
#include "cumeta/selftest.h"

namespace cumeta::app {
namespace {

struct SelftestArguments {
  std::string device = "cpu";
  int ordinal = 0;
  std::uint64_t seed = 1;
  bool json = false;
};

void run(const SelftestArguments& arguments) {
  const Device device = device_from(arguments.device);
  const std::vector<SelftestRow> rows = selftest(device, arguments.ordinal, arguments.seed);
  const auto failed = std::count_if(rows.begin(), rows.end(), [](const SelftestRow& row) { return !row.passed; });
  if (arguments.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const SelftestRow& row : rows)
      list.push_back({{"group", row.group},
                      {"name", row.name},
                      {"error", row.error},
                      {"allowed", row.allowed},
                      {"passed", row.passed}});
    print_json({{"device", to_string(device)},
                {"passed", rows.size() - static_cast<std::size_t>(failed)},
                {"failed", failed},
                {"rows", list}});
  } else {
    for (const SelftestRow& row : rows)
      fmt::print("{:<12} {:<48} error {:9.2e}  allowed {:7.1e}  {}\n", row.group, row.name, row.error, row.allowed,
                 row.passed ? "ok" : "FAILED");
    fmt::print("{}: {} passed, {} failed\n", to_string(device), rows.size() - static_cast<std::size_t>(failed), failed);
  }
  std::fflush(stdout);
  if (failed > 0) throw Failed{};
}

}  // namespace

void add_selftest(CLI::App& program) {
  CLI::App* command = program.add_subcommand("selftest", "Closed forms and every layer's passes on a device");
  command->footer("Example:\n  cumeta selftest --device cpu");
  auto arguments = std::make_shared<SelftestArguments>();
  command->add_option("--device", arguments->device, "cpu, cuda or reference")
      ->type_name("DEVICE")
      ->capture_default_str();
  command->add_option("--ordinal", arguments->ordinal, "Which CUDA device")->check(CLI::Range(0, 1024));
  command->add_option("--seed", arguments->seed, "Of the layers' random sizes and values")
      ->check(CLI::Range(std::int64_t{0}, std::numeric_limits<std::int64_t>::max()));
  add_json_option(*command, arguments->json);
  command->callback([arguments] { run(*arguments); });
}

}  // namespace cumeta::app
