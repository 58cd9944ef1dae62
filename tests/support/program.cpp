// SPDX-License-Identifier: Apache-2.0
#include "tests/support/program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>

#include "tests/support/pictures.h"

namespace cumeta::test {

Process::Process(const std::string& program, const std::vector<std::string>& arguments, const std::string& folder) {
  static std::atomic<int> count{0};
  const std::string number = std::to_string(count++);
  out_ = folder + "/stdout." + number, error_ = folder + "/stderr." + number;
  std::vector<std::string> words = {program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  id_ = fork();
  if (id_ == 0) {
    const auto redirect = [](const std::string& path, int to) {
      const int file = open(path.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0644);
      dup2(file, to);
      close(file);
    };
    redirect(out_, 1);
    redirect(error_, 2);
    execv(program.c_str(), pointers.data());
    _exit(127);
  }
}

void Process::signal(int number) const { kill(id_, number); }

bool Process::reap(int options) {
  if (ended_) return true;
  rusage used{};
  ended_ = wait4(id_, &status_, options, &used) == id_;
  if (ended_) peak_bytes_ = std::int64_t{used.ru_maxrss} * 1024;
  return ended_;
}

bool Process::running() { return !reap(WNOHANG); }

Finished Process::wait() {
  reap(0);
  const int status = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
  return {status, file_bytes(out_), file_bytes(error_), peak_bytes_};
}

}  // namespace cumeta::test
