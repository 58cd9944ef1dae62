// SPDX-License-Identifier: Apache-2.0
// Every layer and loss a model may hold: plain values. Their four passes stand in kernels/layers/.
#pragma once
#include <variant>

namespace cumeta {

/// How a weight array is drawn. `scale` is the gain of glorot/he and the standard deviation of (truncated) normal.
/// glorot_uniform (Glorot & Bengio 2010): U(-l, l), l = scale sqrt(6 / (fan_in + fan_out)); he_normal (He et al. 2015):
/// N(0, scale^2 2 / fan_in); truncated_normal: N(0, scale^2) redrawn beyond two deviations. Biases and shifts start at
/// 0, scales at 1.
struct Initializer {
  enum class Kind { glorot_uniform, he_normal, normal, truncated_normal, zeros };
  Kind kind = Kind::glorot_uniform;
  double scale = 1.0;
};

/// Where batch norm takes its statistics from: the examples at hand (transductive), the support rows of the pass
/// (inductive), or the learner's moving averages (evaluation only).
enum class Statistics { batch, support, running };

/// How the support loss is reduced over examples: `mean`; `sum` over examples (and outputs); `sum_over_ways`, the sum
/// over classes of the class means, i.e. ways x mean (Finn et al.'s code; classification only). Query losses and all
/// reports are means.
enum class Reduction { mean, sum, sum_over_ways };

/// y = W x + b. W is [outputs][inputs] in files, as in PyTorch.
struct Linear {
  int outputs = 1;
  bool bias = true;
  Initializer initializer{};
  bool adapted = true;  ///< false: the inner loop leaves these alone (meta-learned all the same, but by Reptile)
};

/// Square-kernel cross-correlation with zero padding, less than the kernel. Output size
/// floor((n + 2 padding - kernel) / stride) + 1.
struct Conv2d {
  int filters = 1;
  int kernel = 3;
  int stride = 1;
  int padding = 0;
  bool bias = true;
  Initializer initializer{};
  bool adapted = true;
};

/// y = gamma (x - mean) / sqrt(var + eps) + beta per channel, biased variance (Ioffe & Szegedy 2015).
struct BatchNorm {
  bool scale = true;  ///< gamma is there
  bool shift = true;  ///< beta is there
  Statistics statistics = Statistics::batch;
  double eps = 1e-5;
  double momentum = 0.1;  ///< of the moving averages: new = (1 - momentum) old + momentum (mean over tasks)
  bool adapted = true;
};

struct Relu {};  ///< max(x, 0); derivative at 0 is 0
struct LeakyRelu {
  double slope = 0.01;
};  ///< x > 0 ? x : slope x; derivative at 0 is slope
struct Tanh {};
/// Maximum of kernel x kernel windows; ties go to the first index; the output size floors.
struct MaxPool2d {
  int kernel = 2;
  int stride = 2;
};
struct GlobalAveragePool {};  ///< mean over all pixels: [h][w][c] -> [c]
struct Flatten {};            ///< [h][w][c] -> [h w c]

using Layer = std::variant<Linear, Conv2d, BatchNorm, Relu, LeakyRelu, Tanh, MaxPool2d, GlobalAveragePool, Flatten>;

/// -log softmax(x)[label]; targets are one class index per example.
struct SoftmaxCrossEntropy {
  Reduction reduction = Reduction::mean;
};
/// (x - t)^2, mean over examples and outputs; targets are as many numbers as outputs.
struct MeanSquaredError {
  Reduction reduction = Reduction::mean;
};
using Loss = std::variant<SoftmaxCrossEntropy, MeanSquaredError>;

}  // namespace cumeta
