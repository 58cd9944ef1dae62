// SPDX-License-Identifier: Apache-2.0
// The program cumeta: reads the command line, runs one command, and turns every failure into one line and a status:
// 0 fine, 1 failed, 2 bad usage.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <iostream>
#include <new>

#include "app/command.h"
#include "app/nearest.h"
#include "cumeta/error.h"
#include "cumeta/version.h"

namespace {

using namespace cumeta;

/// One line on stderr, whatever the text holds.
int complain(std::string text, int status) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  fmt::print(stderr, "cumeta: {}\n", text);
  return status;
}

/// `status`, unless what was printed has not arrived.
int finish(int status) {
  errno = 0;
  std::cout.flush();
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0 && std::cout) return status;
  return complain(fmt::format("standard output cannot be written: {}", std::strerror(errno ? errno : EIO)), 1);
}

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

/// What CLI11 did not understand, with the nearest thing that it would have.
std::string explain(const CLI::App& program, const CLI::ParseError& error, int count, char** words) {
  std::vector<std::string> commands;
  for (const CLI::App* command : program.get_subcommands({})) commands.push_back(command->get_name());
  const std::string first = count > 1 ? words[1] : "";
  const bool is_command = std::find(commands.begin(), commands.end(), first) != commands.end();
  if (count <= 1) return fmt::format("no command; cumeta --help lists them: {}", fmt::join(commands, ", "));
  if (!is_command && !first.empty() && first[0] != '-')
    return fmt::format("unknown command {}; did you mean {}?", first, app::nearest(first, commands));
  const CLI::App& asked = is_command ? *program.get_subcommand(first) : program;
  const std::vector<std::string> names = option_names(asked);
  for (int i = is_command ? 2 : 1; i < count; ++i) {
    const std::string word = std::string(words[i]).substr(0, std::string(words[i]).find('='));
    if (word.rfind("--", 0) == 0 && word != "--" && std::find(names.begin(), names.end(), word) == names.end())
      return fmt::format("{}: unknown option {}; did you mean {}?", is_command ? first : "cumeta", word,
                         app::nearest(word, names));
  }
  return fmt::format("{}: {}; see cumeta {}--help", is_command ? first : "cumeta", error.what(),
                     is_command ? first + " " : "");
}

}  // namespace

int main(int count, char** words) {
  CLI::App program{"cumeta: exact meta-gradients, fast. Trains, evaluates and inspects meta-learners."};
  program.footer(
      "First steps:\n  cumeta train sinusoid_maml --out runs/first --set run.updates=2000\n"
      "  cumeta evaluate runs/first --steps 10\nExit status: 0 fine, 1 failed, 2 bad usage.");
  program.set_version_flag("--version", CUMETA_VERSION);
  program.require_subcommand(1);
  for (const auto add : {app::add_train, app::add_evaluate, app::add_adapt, app::add_plan, app::add_bench,
                         app::add_sample, app::add_meta_gradient, app::add_selftest, app::add_info})
    add(program);
  std::signal(SIGXFSZ, SIG_IGN);  // a file beyond its limit is then an error of the write that can be reported
  try {
    program.parse(count, words);
    return finish(0);
  } catch (const CLI::Success& done) {
    return finish(program.exit(done));  // --help and --version
  } catch (const CLI::ParseError& error) {
    return complain(explain(program, error, count, words), 2);
  } catch (const app::Failed&) { return 1; } catch (const app::UsageError& error) {
    return complain(error.what(), 2);
  } catch (const InvalidArgument& error) { return complain(error.what(), 2); } catch (const std::bad_alloc&) {
    return complain("the machine has no memory left; set run.memory_limit or fewer tasks", 1);
  } catch (const std::exception& error) { return complain(error.what(), 1); }
}
