// SPDX-License-Identifier: Apache-2.0
// Names and orders of the algorithms, as results report them.
#include "cumeta/algorithms.h"

namespace cumeta {

std::string name_of(const Algorithm& algorithm) {
  struct {
    std::string operator()(const Maml& a) const { return a.order == Order::second ? "maml" : "fomaml"; }
    std::string operator()(const Anil&) const { return "anil"; }
    std::string operator()(const MetaSgd&) const { return "meta_sgd"; }
    std::string operator()(const Reptile&) const { return "reptile"; }
  } name;
  return std::visit(name, algorithm);
}
Order order_of(const Algorithm& algorithm) {
  struct {
    Order operator()(const Maml& a) const { return a.order; }
    Order operator()(const Anil& a) const { return a.order; }
    Order operator()(const MetaSgd& a) const { return a.order; }
    Order operator()(const Reptile&) const { return Order::first; }
  } order;
  return std::visit(order, algorithm);
}
int steps_of(const Algorithm& algorithm) {
  return std::visit([](const auto& a) { return a.steps; }, algorithm);
}
std::string to_string(Order order) { return order == Order::first ? "first" : "second"; }

}  // namespace cumeta
