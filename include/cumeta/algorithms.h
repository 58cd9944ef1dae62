// SPDX-License-Identifier: Apache-2.0
// Every meta-learning algorithm: plain values. Their mathematics stands in src/algorithms/.
//
//   w[0] = theta,  w[k+1] = w[k] - rate * grad S(w[k]),  k = 0..steps-1;   meta-loss = mean over tasks of Q(w[steps])
#pragma once
#include <string>
#include <variant>
#include <vector>

#include "cumeta/export.h"

namespace cumeta {

/// Whether the meta-gradient differentiates through the inner gradients (second, exact) or takes their Hessians for
/// zero.
enum class Order { first, second };

/// Finn et al. 2017. steps = 0 is joint training: the query gradient at theta.
struct Maml {
  int steps = 1;
  double rate = 0.01;
  Order order = Order::second;
  /// One rate per parameter array (a layer's weight and its bias apart, as in Antoniou et al. 2019), instead of one.
  bool rate_per_layer = false;
  bool rate_per_step = false;  ///< one rate per step; with per_layer and learned: LSLR
  bool rate_learned = false;   ///< the rates are meta-parameters
  /// The rates themselves, initial ones where they are learned: [steps, or 1][adapted arrays of the model, or 1], by
  /// rate_per_step and rate_per_layer. Empty: `rate` for all.
  std::vector<double> rates{};
};

/// First-order MAML: a preset of Maml.
inline Maml fomaml(int steps, double rate) { return Maml{.steps = steps, .rate = rate, .order = Order::first}; }

/// Raghu et al. 2020: only layers from `first_adapted_layer` on adapt; exact, and the body's features are computed
/// once. first_adapted_layer = -1: the last layer that has parameters.
struct Anil {
  int steps = 1;
  double rate = 0.01;
  int first_adapted_layer = -1;
  Order order = Order::second;
};

/// Li et al. 2017: one learned rate per parameter, the same in every step.
struct MetaSgd {
  int steps = 1;
  double rate = 0.01;  ///< initial
  Order order = Order::second;
};

/// Nichol et al. 2018: the direction is theta - w[steps]. Support and query examples are one set to it: it trains on
/// the support rows, in mini-batches of consecutive rows (draw episodes with shuffled rows).
struct Reptile {
  enum class Inner { sgd, adam };            ///< adam: beta1 = 0
  enum class InnerState { carried, fresh };  ///< adam's second moment: from the learner (mean over tasks), or zero
  int steps = 5;
  double rate = 0.02;
  Inner inner = Inner::sgd;
  double beta2 = 0.999;
  double eps = 1e-8;
  InnerState inner_state = InnerState::carried;
  int batch = 0;  ///< rows of a mini-batch, a divisor of the support rows; 0: all
};

using Algorithm = std::variant<Maml, Anil, MetaSgd, Reptile>;

/// "maml", "fomaml" (Maml of first order), "anil", "meta_sgd", "reptile".
CUMETA_API std::string name_of(const Algorithm& algorithm);
/// What a result reports: Reptile's is first.
CUMETA_API Order order_of(const Algorithm& algorithm);
/// Inner steps of a task in training.
CUMETA_API int steps_of(const Algorithm& algorithm);
/// "first", "second".
CUMETA_API std::string to_string(Order order);

}  // namespace cumeta
