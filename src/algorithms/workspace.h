// SPDX-License-Identifier: Apache-2.0
// What an algorithm works in: one lane's engines and arrays, and the tasks of one chunk.
#pragma once
#include <optional>
#include <vector>

#include "kernels/backend.h"
#include "src/engine.h"
#include "src/problem.h"

namespace cumeta {

/// One lane's arrays, reused by every chunk that the lane takes. n = tasks of a chunk, P = parameters.
struct Workspace {
  std::vector<Array> weights;    ///< w[1..K], each [n][P]; first order keeps one that is overwritten
  std::vector<Array> gradients;  ///< g[0..K-1] when rates are learned, else one
  Array direction, product;      ///< [n][P], second order
  Array second;                  ///< [n][P], inner Adam
  std::vector<Tape> tapes;       ///< one per inner step when stored, else one
  Tape query_tape;
  TangentTape tangents;
  // A model with a body:
  Tape body_support_tape, body_query_tape;
  std::vector<Array> feature_gradients;  ///< dx of the head, per stored tape (second order)
  Array feature_tangent;                 ///< Rdx of the head
  Array scratch;

  std::optional<Engine> support, query, body_support, body_query;
};

/// Takes the arrays; what the query set needs lies under what the Hessian products need (never alive together).
Workspace take_workspace(Arena& arena, const Problem& problem, int tasks, bool recompute);
/// Binds the engines to a lane.
void bind_engines(Workspace& workspace, Lane& lane, const Problem& problem);

/// The tasks of one chunk.
struct Chunk {
  Lane& lane;
  const Problem& problem;
  Workspace& work;
  bool recompute = false;
  int tasks = 0;
  Array theta;         ///< one shared row of P
  Array rates;         ///< [1][rate_rows x P]
  Array running;       ///< [1][B]
  Array inner_second;  ///< [1][P]: where inner Adam starts; empty: from zero
  Array inner_count;   ///< [1][1] float64
  Array x, t;          ///< [tasks][support + query][...], support rows first
  Array row;           ///< [tasks][RowLayout or evaluation row]
  Array adapted;       ///< [tasks][P]; empty: not wanted

  /// The rates of inner step k, one shared row.
  Array rate(int k) const {
    const int P = problem.layout.parameters;
    return rates.slice(std::int64_t{std::min(k, problem.rate_rows - 1)} * P, P).shared(tasks);
  }
  /// w[k].
  Array weights(int k) const {
    if (k == 0) return theta;
    return cut(work.weights[std::min<std::size_t>(static_cast<std::size_t>(k - 1), work.weights.size() - 1)]);
  }
  Array cut(Array a) const {
    a.tasks = tasks;
    return a;
  }
  /// Rows [first, first + count) of the examples.
  Array x_rows(int first, int count) const { return rows_of(x, first, count); }
  Array t_rows(int first, int count) const { return rows_of(t, first, count); }

 private:
  Array rows_of(Array a, int first, int count) const {
    const std::int64_t per_row = a.size / (problem.sizes.support + problem.sizes.query);
    return cut(a.slice(first * per_row, count * per_row));
  }
};

}  // namespace cumeta
