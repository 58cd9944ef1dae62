// SPDX-License-Identifier: Apache-2.0
// Episodes drawn on the device are those that the host draws: classes, images, turns, pixels and inputs to the bit.
#include <gtest/gtest.h>

#include <bit>
#include <cstdlib>

#include "cumeta/data.h"
#include "src/data/tables_of.h"
#include "tests/support/devices.h"
#include "tests/support/pictures.h"

namespace cumeta::testing {
namespace {

/// Steps between two floats on the number line.
std::int64_t ulps(float a, float b) {
  const auto place = [](float x) {
    const auto bits = std::bit_cast<std::int32_t>(x);
    return std::int64_t{bits < 0 ? std::int32_t(0x80000000u) - bits : bits};
  };
  return std::abs(place(a) - place(b));
}

/// `tasks` tasks of several iterations, drawn from task `first` on into rows with gaps, against the host's.
void expect_equal_episodes(Backend& backend, const Episodes& episodes, int tasks, int first, std::int64_t target_ulps) {
  if (!backend.draws_episodes()) GTEST_SKIP() << backend.name() << " draws no episodes itself";
  const int rows = episodes.support() + episodes.query();
  const std::int64_t x_size = std::int64_t{rows} * episodes.input().size(), t_size = rows * episodes.targets();
  const auto array = [&](std::shared_ptr<std::byte>& memory, int count, std::int64_t size, std::int64_t gap,
                         Number number) {
    memory = backend.allocate(static_cast<std::size_t>(count * (size + gap) * bytes_of(number)));
    return Array{memory.get(), count, size, size + gap, number};
  };
  std::shared_ptr<std::byte> memory[3];
  const Array x = array(memory[0], tasks, x_size, 3, Number::float32);
  const Array t = array(memory[1], tasks, t_size, 1, Number::float32);
  const Array control = array(memory[2], 1, kControlSize, 0, Number::float64);
  const auto tables = tables_of(episodes);
  ASSERT_TRUE(tables);
  backend.open_episodes(*tables);
  const auto recording = backend.record([&] { backend.draw_episodes(backend.lane(0), x, t, first, control); });
  for (const std::uint64_t iteration : {std::uint64_t{0}, std::uint64_t{41}, std::uint64_t{1} << 40}) {
    std::vector<double> numbers(kControlSize);
    numbers[kControlIteration] = static_cast<double>(iteration);
    backend.upload(std::span<const double>(numbers), control);
    recording->run();
    std::vector<double> x_device(static_cast<std::size_t>(tasks * x_size)),
        t_device(static_cast<std::size_t>(tasks * t_size));
    backend.download(x, x_device);
    backend.download(t, t_device);
    std::vector<float> x_host(x_device.size()), t_host(t_device.size());
    episodes.draw(iteration, first, tasks, x_host, t_host);
    for (std::size_t i = 0; i < x_host.size(); ++i) ASSERT_EQ(static_cast<float>(x_device[i]), x_host[i]) << "x " << i;
    for (std::size_t i = 0; i < t_host.size(); ++i)
      ASSERT_LE(ulps(static_cast<float>(t_device[i]), t_host[i]), target_ulps) << "t " << i;
  }
}

TEST(DeviceEpisodes, Sinusoid_cuda) {
  CUMETA_OPEN_OR_SKIP(backend, TestDevice::cuda);
  expect_equal_episodes(backend, Episodes(Sinusoid{.shots = 5, .query = 150}, Subset::train, 7), 6, 0, 0);
  expect_equal_episodes(backend, Episodes(Sinusoid{.shots = 1, .query = 1}, Subset::test, 1ull << 50), 2, 9, 0);
}

TEST(DeviceEpisodes, OmniglotWithTurns_cuda) {
  CUMETA_OPEN_OR_SKIP(backend, TestDevice::cuda);
  const test::Folder folder;
  test::write_small_omniglot(folder, 6);
  for (const int ways : {2, 5, 12})
    expect_equal_episodes(
        backend, Episodes(Omniglot{.root = folder.path(), .ways = ways, .shots = 2, .query = 3}, Subset::train, 3), 4,
        5, 0);
  expect_equal_episodes(
      backend,
      Episodes(Omniglot{.root = folder.path(), .ways = 5, .shots = 2, .query = 3, .shuffle = true}, Subset::train, 3),
      4, 5, 0);
}

TEST(DeviceEpisodes, ColourImagesOfUnequalClasses_cuda) {
  CUMETA_OPEN_OR_SKIP(backend, TestDevice::cuda);
  const test::Folder folder;
  for (int c = 0; c < 5; ++c)
    for (int i = 0; i < 3 + c; ++i)
      folder.put("class" + std::to_string(c) + "/" + std::to_string(i) + ".png",
                 test::png(5, 7, 8, test::Colour::rgb,
                           [&](int y, int x, int k) { return (c * 50 + i * 9 + y * 7 + x * 3 + k) % 256; }));
  expect_equal_episodes(
      backend,
      Episodes(
          ImageFolder{.root = folder.path(), .height = 5, .width = 7, .channels = 3, .ways = 5, .shots = 1, .query = 2},
          Subset::train, 3),
      3, 0, 0);
}

}  // namespace
}  // namespace cumeta::testing
