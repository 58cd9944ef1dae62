// SPDX-License-Identifier: Apache-2.0
// An array in a backend's memory with guard bands before, between and behind its rows; outputs start as NaN.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"

namespace cumeta::testing {

/// Numbers between the rows of the arrays made from now on. The contract promises no alignment, and kernels may choose
/// another way where rows happen to be aligned: a test wants both.
enum class Rows { anywhere = 5, aligned = 8 };
inline Rows guarded_rows = Rows::anywhere;
class RowsLie {
 public:
  explicit RowsLie(Rows rows) : before_(std::exchange(guarded_rows, rows)) {}
  ~RowsLie() { guarded_rows = before_; }
  RowsLie(const RowsLie&) = delete;
  RowsLie& operator=(const RowsLie&) = delete;

 private:
  Rows before_;
};

class GuardedArray {
 public:
  GuardedArray() = default;
  /// rows x size numbers; those of an aligned array are padded to a multiple of four.
  GuardedArray(Backend& backend, int rows, std::int64_t size, Number number)
      : backend_(&backend),
        rows_(rows),
        size_(size),
        number_(number),
        band_(static_cast<std::int64_t>(guarded_rows)),
        stride_((guarded_rows == Rows::aligned ? (size + 3) / 4 * 4 : size) + band_),
        memory_(backend.allocate(static_cast<std::size_t>(band_ + rows * stride_) * bytes_of(number))) {
    fill_rows(std::vector<double>(static_cast<std::size_t>(rows * size), std::numeric_limits<double>::quiet_NaN()));
  }
  GuardedArray(Backend& backend, int rows, std::int64_t size) : GuardedArray(backend, rows, size, backend.number()) {}

  /// values: the rows one after another.
  void fill_rows(const std::vector<double>& values) {
    std::vector<double> all(static_cast<std::size_t>(band_ + rows_ * stride_), kGuard);
    for (int row = 0; row < rows_; ++row)
      for (std::int64_t i = 0; i < size_; ++i)
        all[static_cast<std::size_t>(band_ + row * stride_ + i)] = values[static_cast<std::size_t>(row * size_ + i)];
    backend_->upload(std::span<const double>(all), everything());
  }

  /// As the passes see it; one row seen by `tasks` tasks when `tasks` is given.
  Array array() const { return {memory_.get() + band_ * bytes_of(number_), rows_, size_, stride_, number_}; }
  Array shared(int tasks) const { return array().shared(tasks); }

  /// The rows; adds a failure when a guard was written.
  std::vector<double> rows(const std::string& what) const {
    std::vector<double> all(static_cast<std::size_t>(band_ + rows_ * stride_));
    backend_->download(everything(), all);
    std::vector<double> out;
    out.reserve(static_cast<std::size_t>(rows_ * size_));
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(all.size()); ++i) {
      const std::int64_t at = i - band_, column = at < 0 ? size_ : at % stride_;
      if (column < size_)
        out.push_back(all[static_cast<std::size_t>(i)]);
      else if (all[static_cast<std::size_t>(i)] != kGuard)
        ADD_FAILURE() << what << ": written outside its rows, at task " << (at < 0 ? -1 : at / stride_) << " index "
                      << (at < 0 ? at : column) << " of " << size_;
    }
    return out;
  }

 private:
  static constexpr double kGuard = -54321.5;  // the same in every number type

  Array everything() const {
    const std::int64_t all = band_ + rows_ * stride_;
    return {memory_.get(), 1, all, all, number_};
  }

  Backend* backend_ = nullptr;
  int rows_ = 0;
  std::int64_t size_ = 0;
  Number number_ = Number::float64;
  std::int64_t band_ = 0, stride_ = 0;
  std::shared_ptr<std::byte> memory_;
};

}  // namespace cumeta::testing
