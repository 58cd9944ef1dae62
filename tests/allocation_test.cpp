// SPDX-License-Identifier: Apache-2.0
// After the first update nothing is allocated: operator new is counted while train and meta_update go on.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "cumeta/learner.h"
#include "tests/support/tasks.h"

namespace {
std::atomic<long> allocations{0};

void* counted(std::size_t size, std::size_t alignment) {
  ++allocations;
  const std::size_t whole = (size + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, whole == 0 ? alignment : whole);
  if (!memory) throw std::bad_alloc();
  return memory;
}
}  // namespace

void* operator new(std::size_t size) { return counted(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace cumeta::testing {
namespace {

TEST(Allocations, NoneInTrainingButForReports) {
  const Model model{features(1), {Linear{.outputs = 8}, Tanh{}, Linear{.outputs = 1}}, MeanSquaredError{}};
  const Episodes episodes(Sinusoid{.shots = 4, .query = 4}, Subset::train, 2);
  for (const Algorithm& algorithm : {Algorithm{Maml{.steps = 2, .rate = 0.01}}, Algorithm{MetaSgd{.rate = 0.01}},
                                     Algorithm{Anil{.rate = 0.01}}, Algorithm{Reptile{.rate = 0.01}}}) {
    Learner learner(model, algorithm, {.threads = 2});
    long before = 0, after = 0;
    int reports = 0;
    learner.train(
        episodes, 5, 40,
        [&](const Update&) {
          // Between the end of one report and the begin of the next lie 10 updates and one read-back.
          after = allocations.load();
          if (++reports > 2) {
            EXPECT_LE(after - before, 1) << name_of(algorithm);  // the report's support losses
          }
          before = allocations.load();
          return true;
        },
        10);
    EXPECT_EQ(reports, 4);
  }
}

TEST(Allocations, AMetaUpdateAllocatesItsResultAlone) {
  const Model model = conv_model();
  const Tasks tasks = random_tasks(model, 3, 4, 4, 1);
  const TaskBatch batch = tasks.batch();
  Learner learner(model, Maml{.steps = 2, .rate = 0.01}, {.threads = 2});
  for (int i = 0; i < 3; ++i) learner.meta_update(batch);
  const long before = allocations.load();
  for (int i = 0; i < 10; ++i) learner.meta_update(batch);
  EXPECT_LE(allocations.load() - before, 10);  // one vector of support losses each
}

}  // namespace
}  // namespace cumeta::testing
