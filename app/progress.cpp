// SPDX-License-Identifier: Apache-2.0
#include "app/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "app/command.h"

namespace cumeta::app {

using Clock = std::chrono::steady_clock;

Progress::Progress(std::int64_t first, std::int64_t last, bool accuracy, bool quiet)
    : out_(quiet ? stderr : stdout), accuracy_(accuracy), first_(first), last_(last), begin_(Clock::now()) {
  bar_ = isatty(fileno(out_)) == 1;
  lines_ = !quiet;
}
Progress::~Progress() { clear_bar(); }

double Progress::seconds() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

void Progress::clear_bar() {
  if (drawn_) fmt::print(out_, "\r\033[K"), std::fflush(out_);
  drawn_ = false;
}

std::string Progress::figures(const Update& update) const {
  const double rate = static_cast<double>(update.update - first_) / std::max(seconds(), 1e-9);
  const double left = static_cast<double>(last_ - update.update) / std::max(rate, 1e-9);
  return fmt::format("{}/{}  {:.4g}/s  loss {:.4g}{}  left {}", update.update, last_, rate, update.loss,
                     accuracy_ ? fmt::format("  accuracy {:.4f}", update.accuracy) : "", time_text(left));
}

void Progress::tick(const Update& update) {
  if (!bar_) return;
  const Clock::time_point now = Clock::now();
  if (drawn_ && now - drawn_at_ < std::chrono::milliseconds(100)) return;
  // A line that wraps could not be taken back: the bar gives way first, then the end of the figures.
  winsize terminal{};
  const bool known = ioctl(fileno(out_), TIOCGWINSZ, &terminal) == 0 && terminal.ws_col > 0;
  const int columns = known ? terminal.ws_col : 80;
  const std::string text = figures(update).substr(0, static_cast<std::size_t>(columns - 1));
  const int width = std::clamp(columns - 4 - static_cast<int>(text.size()), 0, 30);
  const auto done = static_cast<int>(width * static_cast<double>(update.update) /
                                     static_cast<double>(std::max<std::int64_t>(last_, 1)));
  if (width >= 5)
    fmt::print(out_, "\r\033[K[{:#<{}}{:.<{}}] {}", "", done, "", width - done, text);
  else
    fmt::print(out_, "\r\033[K{}", text);
  std::fflush(out_);
  drawn_ = true, drawn_at_ = now;
}

void Progress::line(const Update& update, const std::string& more) {
  if (bar_ && more.empty()) return tick(update);
  if (!lines_) return;
  clear_bar();
  fmt::print(out_, "update {}{}\n", figures(update), more);
  std::fflush(out_);
}

void Progress::note(const std::string& text) {
  clear_bar();
  if (!lines_) return;
  fmt::print(out_, "{}\n", text);
  std::fflush(out_);
}

}  // namespace cumeta::app
