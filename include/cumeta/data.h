// SPDX-License-Identifier: Apache-2.0
// Where tasks come from: the sources as plain values, and Episodes, which opens any of them and draws tasks.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <variant>

#include "cumeta/export.h"
#include "cumeta/shape.h"

namespace cumeta {

/// Which tasks: to learn from, to choose a checkpoint by, to report. Their classes are disjoint and so are their draws.
enum class Subset { train, validation, test };

/// y = amplitude * sin(x - phase), one task per (amplitude, phase). For sin(x + phase) mirror the phase range.
struct Sinusoid {
  std::array<float, 2> amplitude{0.1F, 5.0F};
  std::array<float, 2> phase{0.0F, 3.14159274F};
  std::array<float, 2> input{-5.0F, 5.0F};
  int shots = 10;
  int query = 10;
};

/// Moves images out of the training distribution. An output pixel at (u, v) from the centre reads, bilinearly,
/// ((u - shear * v) / scale, v / scale) of the 28x28 image; beyond the edge there is no ink.
struct Warp {
  double shear = 0;
  double scale = 1;
};

enum class OmniglotSplit {
  vinyals,  ///< Vinyals et al. 2016, the table omniglot28_split_vinyals.tsv beside the data: 1028 / 172 / 423
  random    ///< train_classes characters chosen by split_seed, all others are for the test
};

/// Omniglot (Lake et al. 2015) as 28x28 grey images, ink = 1, from images_background and images_evaluation under root
/// (zips or folders).
struct Omniglot {
  std::string root{};
  OmniglotSplit split = OmniglotSplit::vinyals;
  std::uint64_t split_seed = 0;
  int train_classes = 1200;      ///< random split: characters that are not for the test
  int validation_classes = 100;  ///< random split: so many of train_classes are held out to choose a checkpoint by
  bool rotations = true;         ///< quarter turns are classes of their own; in the train subset only
  Warp warp{};
  int ways = 5;
  int shots = 1;
  int query = 1;
  bool shuffle = false;  ///< support rows in random order: runs of them are mini-batches (Reptile)
};

/// Any folder of class folders of PNGs, resized by area average. A class is a folder that directly holds PNGs.
/// If root holds train/ (and validation/ or val/, test/) with class folders in it, these are the subsets and the
/// split's numbers stay 0; otherwise split_seed chooses validation_classes and test_classes classes, and all others are
/// for training.
struct ImageFolder {
  std::string root{};
  int height = 84;
  int width = 84;
  int channels = 3;  ///< 1 grey, 3 RGB
  std::uint64_t split_seed = 0;
  int validation_classes = 0;
  int test_classes = 0;
  int ways = 5;
  int shots = 1;
  int query = 15;
  bool shuffle = false;
};

/// Tasks written in safetensors files, one for each subset: support_x, support_y and, if there are any, query_x,
/// query_y. x: [tasks, examples, features] or [tasks, examples, C, H, W]; y: integers [tasks, examples] (labels) or
/// floats [tasks, examples, outputs]. The tasks of one subset are never those of another: a subset without a file of
/// its own is refused.
struct TaskFile {
  std::string path{};             ///< to learn from
  std::string validation_path{};  ///< to choose a checkpoint by
  std::string test_path{};        ///< to report
};

using Source = std::variant<Sinusoid, Omniglot, ImageFolder, TaskFile>;

/// The resident images: image i of class c is number class_begin[c] + i; each is height x width x channels bytes.
struct ImageView {
  Shape shape{};
  std::span<const std::uint8_t> pixels;
  std::span<const std::uint32_t> class_begin;  ///< one more than there are folders of images (before rotations)
  bool rotations = false;                      ///< class of an episode = 4 * class of the table + quarter turns
  std::span<const std::string> class_names;    ///< of those folders, below their root

  /// What a GPU that draws from them keeps in its memory while it trains.
  std::int64_t bytes() const { return static_cast<std::int64_t>(pixels.size_bytes() + class_begin.size_bytes()); }
};

/// A source opened for one subset. The task of (seed, subset, iteration, task) is the same whatever the batch, the
/// thread or the device: every choice is a Philox draw whose counter they make. draw() may be called by many threads at
/// once and allocates nothing. Opening throws FileError for data that are missing or damaged, InvalidArgument for too
/// few classes or images for the episode asked and for a task file without a file for the subset.
class CUMETA_API Episodes {
 public:
  explicit Episodes(const Source& source, Subset subset = Subset::train, std::uint64_t seed = 0);
  ~Episodes();
  Episodes(Episodes&&) noexcept;
  Episodes& operator=(Episodes&&) noexcept;

  int support() const;  ///< examples per task to adapt on
  int query() const;    ///< examples per task to judge by
  Shape input() const;
  int targets() const;        ///< numbers per example: 1 for a label
  int ways() const;           ///< classes of a task; 0: regression
  int classes() const;        ///< classes to choose from, rotations included; 0: none
  std::size_t tasks() const;  ///< tasks that there are; 0: without end

  /// Tasks first_task ... first_task + tasks - 1 of an iteration, one after the other, support rows first:
  /// x = [task][support + query][input], t = [task][support + query][targets]; a label is the float 0 ... ways - 1.
  /// Rows of support and of query are class by class. Pixels are byte * (1.0f / 255).
  /// Task files: the train subset chooses at random with replacement, the others take the tasks in order, cyclically.
  void draw(std::uint64_t iteration, int first_task, int tasks, std::span<float> x, std::span<float> t) const;

  // For a backend that draws its own episodes.
  const Source& source() const;
  Subset subset() const;
  std::uint64_t seed() const;
  std::uint64_t identity() const;    ///< differs between any two that were opened in this process; never 0
  ImageView images() const;          ///< empty unless the source is images
  const Sinusoid* sinusoid() const;  ///< null unless the source is the sinusoid family

  struct Impl;

 private:
  std::unique_ptr<const Impl> impl_;
};

}  // namespace cumeta
