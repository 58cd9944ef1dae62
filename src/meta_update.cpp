// SPDX-License-Identifier: Apache-2.0
// The outer loop: schedules, meta-updates on host tasks and on drawn episodes, reports, meta-gradients, evaluation.
#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "cumeta/error.h"
#include "src/data/tables_of.h"
#include "src/learner_impl.h"

namespace cumeta {

double Learner::Impl::outer_rate(std::int64_t update) const {
  const double from = std::visit([](const auto& o) { return o.rate; }, options.optimizer);
  const Schedule& s = options.schedule;
  if (s.kind == Schedule::Kind::constant) return from;
  const double part = std::min(1.0, static_cast<double>(update) / static_cast<double>(s.updates));
  if (s.kind == Schedule::Kind::linear) return from + (s.final_rate - from) * part;
  return s.final_rate + (from - s.final_rate) * 0.5 * (1 + std::cos(std::numbers::pi * part));
}

double Learner::Impl::write_control(int slot) {
  double control[kControlSize] = {};
  const double rate = outer_rate(updates);
  control[kControlRate] = rate;
  control[kControlIteration] = static_cast<double>(updates);
  control[kControlReportSlot] = slot;
  backend->upload(std::span<const double>(control, kControlSize), state.control);
  return rate;
}

Update Learner::Impl::read_report(const Prepared& p, std::span<const double> report, std::int64_t number,
                                  double rate) const {
  const Problem& problem = p.execution->problem();
  const ReportLayout at{problem.steps};
  auto value = [&](int i) { return report[static_cast<std::size_t>(i)]; };
  Update u;
  u.update = number, u.rate = rate;
  u.loss = value(at.query_loss_at());
  const int counted = problem.sizes.query;
  u.accuracy = counted > 0 ? value(at.hits_at()) / counted : 0;
  u.gradient_norm = value(at.norm_at());
  u.support_loss.assign(report.begin(), report.begin() + problem.steps);
  u.order = problem.order, u.precision = problem.precision, u.steps = problem.steps, u.adapted_set = adapted_set,
  u.skipped = skipped;
  u.bytes = state_bytes + p.execution->bytes();
  u.implementation = options.implementation;
  return u;
}

void Learner::Impl::refuse_nonfinite(const std::string& what, int task, int step) const {
  const int steps = shape.steps;
  const std::string where = step < steps    ? fmt::format("the support loss before step {}", step)
                            : step == steps ? std::string("the query loss")
                                            : std::string("the meta-gradient");
  double inner = 0;  // the largest there is: rates may be one for each step, array or parameter
  for (const double held : download(state.rates)) inner = std::max(inner, std::fabs(held));
  throw NonFinite(
      fmt::format("{}: {} of task {} is not finite (inner rate up to {}, outer rate {}); lower a rate, clip, or set "
                  "on_nonfinite = \"skip\"",
                  what, where, task, inner, outer_rate(updates)));
}

Update Learner::Impl::collect(const Prepared& p, int count) {
  const ReportLayout at{p.execution->problem().steps};
  const auto size = static_cast<std::size_t>(at.size());
  reports_.resize(static_cast<std::size_t>(state.reports.size) * static_cast<std::size_t>(state.reports.tasks));
  backend->download(state.reports, reports_);
  const std::int64_t first = updates - count;
  const auto report = [&](std::int64_t update) {
    return std::span<const double>(reports_).subspan(static_cast<std::size_t>(update % report_slots) * size, size);
  };
  for (std::int64_t update = first; update < updates; ++update) {
    const auto task = static_cast<int>(report(update)[static_cast<std::size_t>(at.bad_task_at())]);
    const auto step = static_cast<int>(report(update)[static_cast<std::size_t>(at.bad_step_at())]);
    if (task < 0 && step < 0) continue;
    if (options.on_nonfinite == OnNonFinite::stop) {
      updates = update;  // the state is that of the last good update
      const double going = 0;
      backend->upload(std::span<const double>(&going, 1), state.halted);
      refuse_nonfinite(fmt::format("update {}", update + 1), task, step);
    }
    ++skipped;
  }
  return read_report(p, report(updates - 1), updates, outer_rate(updates - 1));
}

Learner::Impl::Feed Learner::Impl::feed_from_host(Prepared& p) {
  const Memory& memory = p.execution->memory();
  const auto numbers = [](const Array& a) {
    return static_cast<std::size_t>(a.tasks) * static_cast<std::size_t>(a.size);
  };
  const std::size_t x_size = numbers(memory.x), t_size = numbers(memory.t);
  Feed feed;
  feed.host = backend->make_upload_buffer((x_size + t_size) * sizeof(float));
  float* const x = reinterpret_cast<float*>(feed.host->memory.get());
  feed.x = {x, x_size}, feed.t = {x + x_size, t_size};
  const auto rows_of = [](std::span<float> host, const Array& device) {
    return Array{reinterpret_cast<std::byte*>(host.data()), device.tasks, device.size, device.size, Number::float32};
  };
  const Array host_x = rows_of(feed.x, memory.x), host_t = rows_of(feed.t, memory.t);
  const Execution::Source source{.fill = [&memory, host_x, host_t](int first, int count, Lane& lane) {
    lane.upload(host_x.rows(first, count), memory.x.rows(first, count));
    lane.upload(host_t.rows(first, count), memory.t.rows(first, count));
  }};
  const OuterStep* step = p.execution->problem().goal == Goal::evaluation ? nullptr : &p.step;
  feed.recording = backend->record([&p, source, step] { p.execution->run(source, step); });
  return feed;
}

void Learner::Impl::Feed::run() {
  recording->run();
  if (host) host->queued();
}

namespace {

/// Task by task its support rows, then its query rows.
void join(std::span<const float> support, std::span<const float> query, std::size_t tasks, std::span<float> out) {
  const std::size_t s = support.size() / tasks, q = query.size() / tasks;
  float* next = out.data();
  for (std::size_t t = 0; t < tasks; ++t) {
    next = std::copy_n(support.data() + t * s, s, next);
    next = std::copy_n(query.data() + t * q, q, next);
  }
}

}  // namespace

void Learner::Impl::run(Prepared& p, const TaskBatch& tasks, int slot) {
  if (p.feeds.empty()) p.feeds.push_back(feed_from_host(p));
  Feed& feed = p.feeds.front();
  feed.host->wait();
  const auto T = static_cast<std::size_t>(tasks.tasks);
  join(tasks.support.x, tasks.query.x, T, feed.x);
  join(tasks.support.y, tasks.query.y, T, feed.t);
  write_control(slot);
  feed.run();
}

Update Learner::meta_update(const TaskBatch& tasks) {
  Impl& im = *impl_;
  im.check(tasks, !im.shape.is_reptile());
  const auto p =
      im.prepare({tasks.tasks, tasks.support.count, tasks.query.count}, Goal::update, im.training_statistics(), -1);
  im.run(*p, tasks, static_cast<int>(im.updates % report_slots));
  ++im.updates;
  return im.collect(*p, 1);
}

namespace {

void check_episodes(const Episodes& e, const Model& model, const ModelLayout& layout) {
  const Shape in = e.input();
  if (!(in == model.input) && !(features(in.size()) == model.input))
    throw InvalidArgument(fmt::format(
        "the data's examples are {}x{}x{}, the model's input is {}x{}x{}; make them equal, or the input "
        "features({})",
        in.height, in.width, in.channels, model.input.height, model.input.width, model.input.channels, in.size()));
  if (e.targets() != layout.targets)
    throw InvalidArgument(
        fmt::format("the data has {} numbers per target, the loss needs {}", e.targets(), layout.targets));
  if ((e.ways() > 0) != is_classification(model.loss))
    throw InvalidArgument(e.ways() > 0 ? "the data has classes; the loss must be softmax_cross_entropy"
                                       : "the data has no classes; the loss must be mean_squared_error");
  if (e.ways() > layout.outputs)
    throw InvalidArgument(fmt::format("the data has {} ways, the model only {} outputs", e.ways(), layout.outputs));
}

/// A flag that is up while a scope lasts.
class Raised {
 public:
  explicit Raised(bool& flag) : flag_(flag) { flag_ = true; }
  ~Raised() { flag_ = false; }
  Raised(const Raised&) = delete;
  Raised& operator=(const Raised&) = delete;

 private:
  bool& flag_;
};

}  // namespace

void Learner::Impl::open(const EpisodeTables& tables, const Episodes& episodes) {
  for (auto& [key, prepared] : prepared_)
    if (open_episodes != 0 && std::get<6>(key) == open_episodes) prepared->feeds.clear();
  open_episodes = 0, resident_bytes = 0;
  const std::int64_t images = episodes.images().bytes(), limit = memory_limit();
  check_images_fit(images, state_bytes, limit);
  evict_for(state_bytes + images, limit);
  backend->open_episodes(tables);
  open_episodes = episodes.identity(), resident_bytes = images;
}

void Learner::Impl::record_training(Prepared& p, const Episodes& episodes, bool on_device) {
  p.episodes = &episodes;
  if (!on_device && !draws_in_place()) {
    // On a GPU the host draws into one buffer while the other's tasks run.
    std::vector<Feed> feeds;
    while (feeds.size() < (backend->on_host() ? 1 : 2)) feeds.push_back(feed_from_host(p));
    p.feeds = std::move(feeds);
    return;
  }
  const Memory& memory = p.execution->memory();
  Execution::Source source{.fill = {}, .open_episodes = on_device};
  if (on_device)
    source.fill = [this, &memory](int first, int count, Lane& lane) {
      backend->draw_episodes(lane, memory.x.rows(first, count), memory.t.rows(first, count), first, state.control);
    };
  else
    source.fill = [this, &p, &memory](int first, int count, Lane&) {
      for (int task = first; task < first + count; ++task)
        p.episodes->draw(static_cast<std::uint64_t>(updates), task, 1,
                         {memory.x.row<float>(task), static_cast<std::size_t>(memory.x.size)},
                         {memory.t.row<float>(task), static_cast<std::size_t>(memory.t.size)});
    };
  Feed feed;
  feed.recording = backend->record([&p, source] { p.execution->run(source, &p.step); });
  p.feeds.push_back(std::move(feed));
}

void Learner::train(const Episodes& episodes, int tasks, std::int64_t updates,
                    const std::function<bool(const Update&)>& report, std::int64_t every) {
  Impl& im = *impl_;
  check_episodes(episodes, im.model, im.shape.layout);
  if (updates < 0) throw InvalidArgument(fmt::format("updates is {}; it must not be negative", updates));
  if (every < 1) throw InvalidArgument(fmt::format("every is {}; it must be positive", every));
  if (im.training) throw InvalidArgument("train was called from its own report; return false there and call it after");
  const Raised training(im.training);
  Backend& backend = *im.backend;
  const std::optional<EpisodeTables> tables = backend.draws_episodes() ? tables_of(episodes) : std::nullopt;
  if (tables && im.open_episodes != episodes.identity()) im.open(*tables, episodes);
  const auto p = im.prepare({tasks, episodes.support(), episodes.query()}, Goal::update, im.training_statistics(), -1,
                            episodes.identity());
  if (p->feeds.empty()) im.record_training(*p, episodes, tables.has_value());
  p->episodes = &episodes;  // the same source may have moved
  int waiting = 0;
  for (std::int64_t i = 0; i < updates; ++i) {
    Impl::Feed& feed = p->feeds[static_cast<std::size_t>(i) % p->feeds.size()];
    if (feed.host) {
      feed.host->wait();
      episodes.draw(static_cast<std::uint64_t>(im.updates), 0, tasks, feed.x, feed.t);
    }
    im.write_control(static_cast<int>(im.updates % report_slots));
    feed.run();
    ++im.updates, ++waiting;
    const bool due = im.updates % every == 0 || i + 1 == updates;
    if (!due && waiting < report_slots) continue;
    const Update last = im.collect(*p, waiting);
    waiting = 0;
    if (due && report && !report(last)) return;
  }
}

void Learner::train(const Episodes& episodes, std::int64_t updates, const std::function<bool(const Update&)>& report,
                    std::int64_t every) {
  train(episodes, impl_->options.tasks, updates, report, every);
}

MetaGradient Learner::meta_gradient(const TaskBatch& tasks) {
  Impl& im = *impl_;
  im.check(tasks, !im.shape.is_reptile());
  const auto prepared =
      im.prepare({tasks.tasks, tasks.support.count, tasks.query.count}, Goal::gradient, im.training_statistics(), -1);
  const Impl::Prepared& p = *prepared;
  im.run(*prepared, tasks, 0);
  const Problem& problem = p.execution->problem();
  const RowLayout at = problem.row();
  const auto T = static_cast<std::size_t>(tasks.tasks);
  const auto P = static_cast<std::size_t>(problem.layout.parameters), row = static_cast<std::size_t>(at.size());
  const auto K = static_cast<std::size_t>(problem.steps);
  const std::vector<double> rows = im.download(p.execution->memory().rows),
                            mean = im.download(p.execution->memory().mean);
  im.backend->upload(std::vector<double>{0.0}, im.state.halted);
  if (im.options.on_nonfinite == OnNonFinite::stop) {
    const ReportLayout report{problem.steps};
    const std::vector<double> outcome = im.download(im.state.reports.rows(0, 1));
    const auto step = static_cast<int>(outcome[static_cast<std::size_t>(report.bad_step_at())]);
    if (step >= 0)
      im.refuse_nonfinite("meta_gradient", static_cast<int>(outcome[static_cast<std::size_t>(report.bad_task_at())]),
                          step);
  }
  MetaGradient g;
  g.order = problem.order, g.precision = problem.precision, g.tasks = tasks.tasks, g.steps = problem.steps,
  g.adapted_set = im.adapted_set;
  g.gradient.assign(mean.begin(), mean.begin() + static_cast<std::ptrdiff_t>(P));
  if (problem.learned_rates)
    g.rate_gradient.assign(mean.begin() + static_cast<std::ptrdiff_t>(P), mean.begin() + at.gradient);
  for (std::size_t t = 0; t < T; ++t) {
    const double* r = rows.data() + t * row;
    g.gradient_per_task.insert(g.gradient_per_task.end(), r, r + P);
    g.support_loss.insert(g.support_loss.end(), r + at.support_loss_at(), r + at.support_loss_at() + K);
    g.query_loss.push_back(r[at.query_loss_at()]);
    g.accuracy.push_back(tasks.query.count ? r[at.hits_at()] / tasks.query.count : 0);
  }
  g.adapted = im.download(p.execution->memory().adapted);
  return g;
}

Evaluation Learner::evaluate(const TaskBatch& tasks, int steps, Statistics statistics) {
  Impl& im = *impl_;
  im.check(tasks, true);
  if (steps < 0) throw InvalidArgument(fmt::format("steps is {}; it must not be negative", steps));
  const auto p = im.prepare({tasks.tasks, tasks.support.count, tasks.query.count}, Goal::evaluation, statistics, steps);
  im.run(*p, tasks, 0);
  const std::vector<double> rows = im.download(p->execution->memory().rows);
  Evaluation e;
  e.order = im.shape.order, e.precision = im.shape.precision, e.tasks = tasks.tasks, e.steps = steps,
  e.statistics = statistics;
  e.adapted_set = adapted_names(im.model, p->execution->problem());  // of the steps taken here, not those trained with
  const auto values = static_cast<std::size_t>(steps) + 1, row = 2 * values + 1;
  for (std::size_t t = 0; t < static_cast<std::size_t>(tasks.tasks); ++t)
    for (std::size_t k = 0; k < values; ++k) {
      e.loss.push_back(rows[t * row + k]);
      e.accuracy.push_back(rows[t * row + values + k] / tasks.query.count);
    }
  return e;
}

}  // namespace cumeta
