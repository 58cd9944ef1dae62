// SPDX-License-Identifier: Apache-2.0
// Tasks from a safetensors file: layout, order of the tasks, and every defect by name.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <set>

#include "cumeta/data.h"
#include "cumeta/error.h"
#include "src/safetensors.h"
#include "tests/support/pictures.h"
#include "tests/support/says.h"

namespace cumeta {
namespace {

using safetensors::Tensor;
using safetensors::tensor;

Tensor counted(std::vector<std::int64_t> shape, double first) {
  std::size_t size = 1;
  for (const std::int64_t extent : shape) size *= static_cast<std::size_t>(extent);
  std::vector<double> values(size);
  for (std::size_t i = 0; i < size; ++i) values[i] = first + static_cast<double>(i);
  return tensor(std::span<const double>(values), std::move(shape));
}
Tensor labels(std::vector<std::int64_t> values, std::vector<std::int64_t> shape) {
  return tensor(std::span<const std::int64_t>(values), std::move(shape));
}
safetensors::File two_image_tasks() {
  safetensors::File file;
  file.tensors["support_x"] = counted({2, 2, 3, 2, 2}, 0);
  file.tensors["support_y"] = labels({0, 1, 1, 0}, {2, 2});
  file.tensors["query_x"] = counted({2, 1, 3, 2, 2}, 100);
  file.tensors["query_y"] = labels({2, 1}, {2, 1});
  return file;
}

class TaskFiles : public ::testing::Test {
 protected:
  Episodes open(const safetensors::File& file, Subset subset = Subset::test) const {
    safetensors::write(path_, file);
    return Episodes(subset == Subset::train ? TaskFile{.path = path_} : TaskFile{.test_path = path_}, subset, 1);
  }
  std::string refusal(const safetensors::File& file) const {
    try {
      const Episodes opened = open(file);
      return "";
    } catch (const FileError& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
      return error.what();
    }
  }
  test::Folder folder_;
  std::string path_ = folder_.path("tasks.safetensors");
};

TEST_F(TaskFiles, ImagesBecomeChannelsLast) {
  const Episodes episodes = open(two_image_tasks());
  EXPECT_EQ(episodes.support(), 2);
  EXPECT_EQ(episodes.query(), 1);
  EXPECT_EQ(episodes.input(), image(2, 2, 3));
  EXPECT_EQ(episodes.targets(), 1);
  EXPECT_EQ(episodes.ways(), 3);
  EXPECT_EQ(episodes.tasks(), 2U);
  std::vector<float> x(2 * 3 * 12), t(6);
  episodes.draw(0, 0, 2, x, t);
  EXPECT_EQ(t, (std::vector<float>{0, 1, 2, 1, 0, 1}));
  const int first[] = {0, 12, 100, 24, 36, 112};
  for (int row = 0; row < 6; ++row)
    for (int pixel = 0; pixel < 4; ++pixel)
      for (int c = 0; c < 3; ++c)
        EXPECT_EQ(x[static_cast<std::size_t>(row * 12 + pixel * 3 + c)],
                  static_cast<float>(first[row] + c * 4 + pixel));
}

TEST_F(TaskFiles, RegressionAndSupportAlone) {
  safetensors::File file;
  file.tensors["support_x"] = counted({3, 2, 1}, 0);
  file.tensors["support_y"] = counted({3, 2, 2}, 50);
  const Episodes episodes = open(file);
  EXPECT_EQ(episodes.query(), 0);
  EXPECT_EQ(episodes.ways(), 0);
  EXPECT_EQ(episodes.targets(), 2);
  std::vector<float> x(2), t(4);
  episodes.draw(9, 4, 1, x, t);  // task 4 of 3, cyclically
  EXPECT_EQ(x, (std::vector<float>{2, 3}));
  EXPECT_EQ(t, (std::vector<float>{54, 55, 56, 57}));
}

TEST_F(TaskFiles, TrainingChoosesAtRandom) {
  safetensors::File file;
  file.tensors["support_x"] = counted({5, 1, 1}, 0);
  file.tensors["support_y"] = counted({5, 1, 1}, 0);
  const Episodes episodes = open(file, Subset::train);
  std::vector<float> x(200), t(200), again(1), unused(1);
  episodes.draw(3, 0, 200, x, t);
  EXPECT_EQ(std::set<float>(x.begin(), x.end()).size(), 5U);
  EXPECT_NE(x[0] + 1 == x[1] && x[1] + 1 == x[2], true);
  episodes.draw(3, 150, 1, again, unused);
  EXPECT_EQ(again[0], x[150]);
}

/// What is learnt from is never what is judged by.
TEST_F(TaskFiles, EverySubsetHasItsOwnFile) {
  const std::string other = folder_.path("other.safetensors");
  safetensors::File file = two_image_tasks();
  safetensors::write(path_, file);
  file.tensors["support_x"] = counted({2, 2, 3, 2, 2}, 500);
  safetensors::write(other, file);
  const TaskFile both{.path = path_, .validation_path = other};
  std::vector<float> x(3 * 12), t(3);
  Episodes(both, Subset::validation, 1).draw(0, 0, 1, x, t);
  EXPECT_EQ(x[0], 500);
  EXPECT_SAYS(Episodes(both, Subset::test, 1), "data.test_path is not set");
  EXPECT_SAYS(Episodes(TaskFile{.path = path_}, Subset::validation, 1), "data.validation_path is not set");
  EXPECT_SAYS(Episodes(TaskFile{.path = path_}, Subset::validation, 1), "run.validate_every=0");
  EXPECT_SAYS(Episodes(TaskFile{.test_path = path_}, Subset::train, 1), "data.path is not set");
  std::filesystem::create_symlink(path_, folder_.path("link"));
  for (const std::string& same : {path_, folder_.path("link")}) {
    EXPECT_SAYS(Episodes(TaskFile{.path = path_, .test_path = same}, Subset::test, 1), "name two files");
    EXPECT_SAYS(Episodes(TaskFile{.path = path_, .test_path = same}, Subset::train, 1), "name two files");
  }
  EXPECT_THROW(Episodes(both, Subset::test, 1), InvalidArgument);
}

TEST_F(TaskFiles, EveryDefectIsNamed) {
  const auto refused = [&](const char* name, const Tensor& wrong, const char* part) {
    safetensors::File file = two_image_tasks();
    file.tensors[name] = wrong;
    EXPECT_NE(refusal(file).find(part), std::string::npos) << name << ": " << refusal(file);
  };
  EXPECT_EQ(refusal(two_image_tasks()), "");
  refused("support_x", counted({2, 2, 12, 1}, 0), "support_x of shape [2, 2, 12, 1]");
  refused("support_x", counted({2, 3, 3, 2, 2}, 0), "examples of support_x");
  refused("support_x", counted({2, 2, 12}, 0), "another shape");
  refused("support_x", counted({2, 0, 3, 2, 2}, 0), "is empty");
  refused("query_x", counted({3, 1, 3, 2, 2}, 0), "3 tasks in one tensor and 2");
  refused("query_y", counted({2, 1, 1}, 0), "another kind");
  refused("support_y", counted({2, 2}, 0), "neither integers");
  refused("support_y", labels({0, 1, -1, 0}, {2, 2}), "label -1");
  refused("support_y", labels({0, 1, std::int64_t{1} << 60, 0}, {2, 2}), "label");
  refused("support_x", counted({2, 2, 3, 2, 2}, std::numeric_limits<double>::infinity()), "inf");
  refused("support_x", counted({2, 2, 3, 2, 2}, 1e300), "inf");
  for (const char* name : {"support_x", "support_y", "query_x", "query_y"}) {
    safetensors::File file = two_image_tasks();
    file.tensors.erase(name);
    EXPECT_NE(refusal(file).find(std::string("no tensor ") + name), std::string::npos);
  }
  EXPECT_THROW(Episodes(TaskFile{.path = folder_.path("absent")}), FileError);
}

}  // namespace
}  // namespace cumeta
