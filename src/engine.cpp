// SPDX-License-Identifier: Apache-2.0
#include "src/engine.h"

namespace cumeta {

namespace {

Geometry geometry_of(const PlacedStage& stage, const EngineSizes& sizes) {
  return {stage.input, sizes.examples, sizes.statistics_rows};
}
Array cut(Array a, int tasks) {
  a.tasks = tasks;
  return a;
}
Array part(Array row, const PlacedStage& stage) {
  return stage.size && row ? row.slice(stage.offset, stage.size) : Array{};
}

}  // namespace

Tape take_tape(Arena& arena, const std::string& name, const ModelLayout& layout, const EngineSizes& sizes, int tasks,
               bool with_gradient) {
  Tape tape;
  for (int i = sizes.first_stage; i < sizes.last_stage; ++i) {
    const PlacedStage& stage = layout.stages[static_cast<std::size_t>(i)];
    const std::int64_t y = std::int64_t{sizes.examples} * stage.output.size();
    tape.y.push_back(arena.take(name + " values", tasks, y));
    tape.r.push_back(arena.take(name + " records", tasks, record(stage.stage, geometry_of(stage, sizes))));
    tape.dy.push_back(with_gradient ? arena.take(name + " gradients", tasks, y) : Array{});
  }
  return tape;
}

TangentTape take_tangent_tape(Arena& arena, const std::string& name, const ModelLayout& layout,
                              const EngineSizes& sizes, int tasks) {
  TangentTape tape;
  std::int64_t largest = 0;
  for (int i = sizes.first_stage; i < sizes.last_stage; ++i) {
    const PlacedStage& stage = layout.stages[static_cast<std::size_t>(i)];
    const std::int64_t y = std::int64_t{sizes.examples} * stage.output.size();
    tape.y.push_back(arena.take(name + " values", tasks, y));
    tape.r.push_back(arena.take(name + " records", tasks, tangent_record(stage.stage, geometry_of(stage, sizes))));
    largest = std::max(largest, y);
  }
  for (Array& dy : tape.dy) dy = arena.take(name + " gradients", tasks, largest);
  return tape;
}

std::int64_t engine_scratch(const ModelLayout& layout, const EngineSizes& sizes, Device device) {
  std::int64_t most = 0;
  for (int i = sizes.first_stage; i < sizes.last_stage; ++i) {
    const PlacedStage& stage = layout.stages[static_cast<std::size_t>(i)];
    most = std::max(most, scratch(stage.stage, geometry_of(stage, sizes), device));
  }
  return most;
}

Engine::Engine(Lane& lane, const ModelLayout& layout, const Loss& loss, const EngineSizes& sizes, Array scratch)
    : stages_(layout.stages.begin() + sizes.first_stage, layout.stages.begin() + sizes.last_stage), sizes_(sizes) {
  for (const PlacedStage& stage : stages_)
    passes_.push_back(lane.bind(stage.stage, geometry_of(stage, sizes), scratch));
  if (sizes.last_stage == static_cast<int>(layout.stages.size()))
    loss_ = lane.bind(loss, LossGeometry{layout.outputs, sizes.examples, sizes.first_loss_row, sizes.factor});
}

void Engine::forward(int tasks, Array w, Array x, const Tape& tape) const {
  for (std::size_t i = 0; i < passes_.size(); ++i) {
    passes_[i]->forward({part(w, stages_[i]), x, cut(tape.y[i], tasks), tape.r[i]});
    x = tape.y[i];
  }
}

void Engine::loss(int tasks, Array t, const Tape& tape, Array loss, Array hits, bool with_gradient) const {
  loss_->forward_backward(cut(tape.y.back(), tasks), t, loss, hits, with_gradient ? tape.dy.back() : Array{});
}

void Engine::backward(int tasks, Array w, Array x, const Tape& tape, Array dw, Array dx) const {
  for (std::size_t i = passes_.size(); i-- > 0;) {
    const Values v{part(w, stages_[i]), i ? tape.y[i - 1] : x, cut(tape.y[i], tasks), tape.r[i]};
    passes_[i]->backward(v, {tape.dy[i], i ? tape.dy[i - 1] : dx, part(dw, stages_[i])});
  }
}

void Engine::gradient(int tasks, Array w, Array x, Array t, const Tape& tape, Array loss_out, Array hits, Array dw,
                      Array dx) const {
  forward(tasks, w, x, tape);
  loss(tasks, t, tape, loss_out, hits, true);
  backward(tasks, w, x, tape, dw, dx);
}

void Engine::hessian_product(int tasks, Array w, Array v, Array x, Array t, const Tape& tape,
                             const TangentTape& tangents, Array product, Array dx, Array Rdx) const {
  const std::size_t n = passes_.size();
  auto values = [&](std::size_t i) {
    return Values{part(w, stages_[i]), i ? tape.y[i - 1] : x, cut(tape.y[i], tasks), tape.r[i]};
  };
  auto tangent_values = [&](std::size_t i) {
    return Values{part(v, stages_[i]), i ? tangents.y[i - 1] : Array{}, tangents.y[i], tangents.r[i]};
  };
  // A stage without parameters in front of the first one that has some sees no tangent: Rx is zero and so is Ry.
  for (std::size_t i = 0; i < n; ++i) passes_[i]->tangent_forward(values(i), tangent_values(i));
  const std::int64_t outputs = tape.y.back().size;
  loss_->tangent_backward(cut(tape.y.back(), tasks), t, tangents.y.back(), tangents.dy[n % 2].slice(0, outputs));
  for (std::size_t i = n; i-- > 0;) {
    const Array Rdy = tangents.dy[(i + 1) % 2].slice(0, tape.y[i].size);
    const Array Rdx_i = i ? tangents.dy[i % 2].slice(0, tape.y[i - 1].size) : Rdx;
    passes_[i]->tangent_backward(values(i), {tape.dy[i], i ? tape.dy[i - 1] : dx, {}}, tangent_values(i),
                                 {Rdy, Rdx_i, part(product, stages_[i])});
  }
}

}  // namespace cumeta
