// SPDX-License-Identifier: Apache-2.0
// A stranger's program against the installed library: learns y = a x + b from few points; or asks for a device.
//   stranger cpu | reference | cuda       learns there; prints the device's name, the first and the last loss
//   stranger cuda-absent                  fine only if Device::cuda is refused by a DeviceUnavailable of one line
#include <cumeta/cumeta.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

namespace {

constexpr int kTasks = 8, kSupport = 5, kQuery = 10;

/// Lines of slope a and height b through fixed places, so that every run sees the same numbers.
struct Lines {
  std::vector<float> support_x, support_y, query_x, query_y;
  Lines() {
    for (int task = 0; task < kTasks; ++task) {
      const float a = 0.25f * static_cast<float>(task) - 1, b = task % 2 == 0 ? 0.5f : -0.5f;
      const auto add = [&](std::vector<float>& x, std::vector<float>& y, int count) {
        for (int i = 0; i < count; ++i) {
          x.push_back(2 * static_cast<float>(i) / static_cast<float>(count - 1) - 1);
          y.push_back(a * x.back() + b);
        }
      };
      add(support_x, support_y, kSupport);
      add(query_x, query_y, kQuery);
    }
  }
  cumeta::TaskBatch batch() const {
    return {.tasks = kTasks, .support = {kSupport, support_x, support_y}, .query = {kQuery, query_x, query_y}};
  }
};

cumeta::Learner learner_on(cumeta::Device device) {
  const cumeta::Model model{.input = cumeta::features(1),
                            .layers = {cumeta::Linear{.outputs = 16}, cumeta::Relu{}, cumeta::Linear{.outputs = 1}},
                            .loss = cumeta::MeanSquaredError{}};
  return cumeta::Learner(model, cumeta::Maml{.steps = 1, .rate = 0.1},
                         {.device = device, .optimizer = cumeta::Adam{.rate = 1e-2}, .seed = 1, .threads = 2});
}

int learn(cumeta::Device device) {
  cumeta::Learner learner = learner_on(device);
  const Lines lines;
  const double first = learner.meta_update(lines.batch()).loss;
  cumeta::Update last;
  for (int i = 0; i < 50; ++i) last = learner.meta_update(lines.batch());
  std::printf("%s: loss %.5f -> %.5f, %s order, cumeta %s\n", learner.device_name().c_str(), first, last.loss,
              cumeta::to_string(last.order).c_str(), CUMETA_VERSION);
  if (!std::isfinite(last.loss) || last.loss > 0.5 * first) {
    std::puts("stranger: it did not learn");
    return 1;
  }
  return 0;
}

/// A process that never asked for Device::cuda pays nothing for it.
int refuse_mapped_cuda() {
  std::ifstream maps("/proc/self/maps");
  int own = 0;
  for (std::string line; std::getline(maps, line);) {
    own += line.find("libcumeta.so") != std::string::npos ? 1 : 0;
    for (const char* name : {"libcuda", "cudart", "cublas", "cudnn", "libcumeta_cuda"})
      if (line.find(name) != std::string::npos) {
        std::printf("stranger: mapped without being asked for: %s\n", line.c_str());
        return 1;
      }
  }
  if (own > 0) return 0;
  std::puts("stranger: libcumeta.so is not among the mapped files");
  return 1;
}

/// Errors thrown inside the library must be caught by their type out here.
int refuse_bad_model() {
  try {
    cumeta::Learner learner(cumeta::Model{.input = cumeta::features(1), .layers = {cumeta::Linear{.outputs = -3}}},
                            cumeta::Maml{});
  } catch (const cumeta::InvalidArgument& error) {
    std::printf("refused as it should be: %s\n", error.what());
    return 0;
  }
  std::puts("stranger: a layer of -3 outputs was accepted");
  return 1;
}

int refuse_cuda() {
  try {
    learner_on(cumeta::Device::cuda);
  } catch (const cumeta::DeviceUnavailable& error) {
    std::printf("refused as it should be: %s\n", error.what());
    if (std::strlen(error.what()) < 20 || std::strchr(error.what(), '\n') != nullptr) {
      std::puts("stranger: that is not one clear line");
      return 1;
    }
    return learn(cumeta::Device::cpu);  // the process is as good as before
  }
  std::puts("stranger: Device::cuda was opened where no driver is");
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "cpu";
  try {
    if (what == "cuda-absent") return refuse_cuda();
    const cumeta::Device device = cumeta::device_from(what);
    const int failures = refuse_bad_model() + learn(device);
    return failures + (device == cumeta::Device::cuda ? 0 : refuse_mapped_cuda());
  } catch (const cumeta::Error& error) {
    std::printf("stranger: %s\n", error.what());
    return 1;
  }
}
