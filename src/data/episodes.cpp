// SPDX-License-Identifier: Apache-2.0
// Episodes: the door to every source; checks once, then draws.
#include <fmt/format.h>

#include <atomic>

#include "cumeta/data.h"
#include "cumeta/error.h"
#include "src/data/checks.h"
#include "src/data/image_folder.h"
#include "src/data/image_table.h"
#include "src/data/omniglot.h"
#include "src/data/sinusoid_tasks.h"
#include "src/data/task_file.h"

namespace cumeta {
namespace {

using Opened = std::variant<SinusoidTasks, ImageTasks, FileTasks>;

// The numbers of the subsets are those of the purposes, so a subset names its stream.
static_assert(static_cast<int>(Subset::train) == static_cast<int>(Purpose::train) &&
              static_cast<int>(Subset::validation) == static_cast<int>(Purpose::validation) &&
              static_cast<int>(Subset::test) == static_cast<int>(Purpose::test));

struct Open {
  Subset subset;

  Opened operator()(const Sinusoid& family) const { return SinusoidTasks(family); }
  Opened operator()(const Omniglot& source) const {
    check_episode("omniglot", source.ways, source.shots, source.query);
    return ImageTasks(open_omniglot(source, subset), {source.ways, source.shots, source.query, source.shuffle});
  }
  Opened operator()(const ImageFolder& source) const {
    check_episode("image folder", source.ways, source.shots, source.query);
    return ImageTasks(open_image_folder(source, subset), {source.ways, source.shots, source.query, source.shuffle});
  }
  Opened operator()(const TaskFile& source) const { return FileTasks(source, subset); }
};

}  // namespace

struct Episodes::Impl {
  Source source;
  Subset subset;
  std::uint64_t seed;
  Opened opened;
  SourceSizes sizes;
  std::uint64_t identity;
};

namespace {
std::uint64_t next_identity() {
  static std::atomic<std::uint64_t> opened{0};
  return ++opened;
}
}  // namespace

Episodes::Episodes(const Source& source, Subset subset, std::uint64_t seed) {
  Opened opened = std::visit(Open{subset}, source);
  const SourceSizes sizes = std::visit([](const auto& tasks) { return tasks.sizes(); }, opened);
  impl_ = std::make_unique<const Impl>(Impl{source, subset, seed, std::move(opened), sizes, next_identity()});
}
Episodes::~Episodes() = default;
Episodes::Episodes(Episodes&&) noexcept = default;
Episodes& Episodes::operator=(Episodes&&) noexcept = default;

int Episodes::support() const { return impl_->sizes.support; }
int Episodes::query() const { return impl_->sizes.query; }
Shape Episodes::input() const { return impl_->sizes.input; }
int Episodes::targets() const { return impl_->sizes.targets; }
int Episodes::ways() const { return impl_->sizes.ways; }
int Episodes::classes() const { return impl_->sizes.classes; }
std::size_t Episodes::tasks() const { return impl_->sizes.tasks; }
const Source& Episodes::source() const { return impl_->source; }
Subset Episodes::subset() const { return impl_->subset; }
std::uint64_t Episodes::seed() const { return impl_->seed; }
std::uint64_t Episodes::identity() const { return impl_->identity; }
const Sinusoid* Episodes::sinusoid() const { return std::get_if<Sinusoid>(&impl_->source); }
ImageView Episodes::images() const {
  const auto* images = std::get_if<ImageTasks>(&impl_->opened);
  return images == nullptr ? ImageView{} : images->view();
}

void Episodes::draw(std::uint64_t iteration, int first_task, int tasks, std::span<float> x, std::span<float> t) const {
  const SourceSizes& sizes = impl_->sizes;
  if (first_task < 0 || tasks < 0)
    throw InvalidArgument(fmt::format("draw: {} tasks from task {}; both are 0 or more", tasks, first_task));
  const auto rows = static_cast<std::size_t>(sizes.rows());
  const std::size_t x_size = rows * static_cast<std::size_t>(sizes.input.size());
  const std::size_t t_size = rows * static_cast<std::size_t>(sizes.targets);
  const auto count = static_cast<std::size_t>(tasks);
  if (x.size() != count * x_size || t.size() != count * t_size)
    throw InvalidArgument(fmt::format("draw: room for {} inputs and {} targets where {} tasks have {} and {}", x.size(),
                                      t.size(), tasks, count * x_size, count * t_size));
  std::visit(
      [&](const auto& opened) {
        for (std::size_t i = 0; i < count; ++i)
          opened.draw({impl_->seed, static_cast<Purpose>(impl_->subset), iteration,
                       static_cast<std::uint32_t>(first_task) + static_cast<std::uint32_t>(i)},
                      x.data() + i * x_size, t.data() + i * t_size);
      },
      impl_->opened);
}

}  // namespace cumeta
