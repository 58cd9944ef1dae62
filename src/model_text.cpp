// SPDX-License-Identifier: Apache-2.0
#include "src/model_text.h"

#include <fmt/format.h>

namespace cumeta {

namespace {

const char* without(bool there, const char* words) { return there ? "" : words; }

struct Text {
  std::string operator()(const Linear& l) const {
    return fmt::format("linear {}{}", l.outputs, without(l.bias, " without bias"));
  }
  std::string operator()(const Conv2d& l) const {
    return fmt::format("conv2d {} kernel {} stride {} padding {}{}", l.filters, l.kernel, l.stride, l.padding,
                       without(l.bias, " without bias"));
  }
  std::string operator()(const BatchNorm& l) const {
    return fmt::format("batch_norm eps {}{}{}", l.eps, without(l.scale, " without scale"),
                       without(l.shift, " without shift"));
  }
  std::string operator()(const Relu&) const { return "relu"; }
  std::string operator()(const LeakyRelu& l) const { return fmt::format("leaky_relu {}", l.slope); }
  std::string operator()(const Tanh&) const { return "tanh"; }
  std::string operator()(const MaxPool2d& l) const {
    return fmt::format("max_pool2d {} stride {}", l.kernel, l.stride);
  }
  std::string operator()(const GlobalAveragePool&) const { return "global_average_pool"; }
  std::string operator()(const Flatten&) const { return "flatten"; }
  std::string operator()(const SoftmaxCrossEntropy&) const { return "softmax_cross_entropy"; }
  std::string operator()(const MeanSquaredError&) const { return "mean_squared_error"; }
};

}  // namespace

std::string model_text(const Model& model) {
  std::string text = fmt::format("{}x{}x{}:", model.input.height, model.input.width, model.input.channels);
  for (const Layer& layer : model.layers) text += fmt::format(" {};", std::visit(Text{}, layer));
  return fmt::format("{} {}", text, std::visit(Text{}, model.loss));
}

}  // namespace cumeta
