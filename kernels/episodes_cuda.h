// SPDX-License-Identifier: Apache-2.0
// Episodes drawn on the device: the data stays resident, one kernel writes the inputs and targets of a chunk of tasks.
#pragma once
#include <memory>

#include "kernels/backend_cuda.h"
#include "kernels/episode_tables.h"

namespace cumeta {

class DeviceEpisodes {
 public:
  /// Copies images and class table to the device.
  DeviceEpisodes(const EpisodeTables& tables, Backend& backend, cudaStream_t stream);
  /// x [tasks][rows][input], t [tasks][rows][targets] of the tasks first_task, first_task + 1, ...; the iteration is
  /// read from control when the kernel runs.
  void draw(const CudaLane& lane, Array x, Array t, int first_task, Array control) const;

  const EpisodeTables& tables() const { return tables_; }

 private:
  EpisodeTables tables_;  ///< its spans are those of the device
  std::shared_ptr<std::byte> pixels_, class_begin_;
};

}  // namespace cumeta
