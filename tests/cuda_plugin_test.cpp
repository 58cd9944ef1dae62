// SPDX-License-Identifier: Apache-2.0
// The CUDA plugin from the host's side: what goes wrong is one clear line, and what it opens works, recorded or not.
#include "src/cuda_plugin.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <string>

#include "cumeta/error.h"
#include "kernels/backend.h"
#include "tests/support/devices.h"

namespace cumeta {
namespace {

/// Names a plugin until the end of a scope.
class NamedPlugin {
 public:
  explicit NamedPlugin(const std::string& path, const char* variable = "CUMETA_CUDA_PLUGIN") : variable_(variable) {
    if (const char* before = std::getenv(variable_)) before_ = before;
    setenv(variable_, path.c_str(), 1);
  }
  ~NamedPlugin() { before_ ? setenv(variable_, before_->c_str(), 1) : unsetenv(variable_); }
  NamedPlugin(const NamedPlugin&) = delete;
  NamedPlugin& operator=(const NamedPlugin&) = delete;

 private:
  const char* variable_;
  std::optional<std::string> before_;
};

/// The one line with which opening fails.
template <class Exception>
std::string failure(const CudaOptions& options = {}) {
  try {
    open_cuda(options);
  } catch (const Exception& error) {
    const std::string text = error.what();
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    EXPECT_EQ(text.rfind("cuda: ", 0), 0u) << text;
    return text;
  }
  ADD_FAILURE() << "opened";
  return {};
}
bool holds(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(CudaPlugin, MissingFile) {
  const NamedPlugin named("/nowhere/libcumeta_cuda.so");
  EXPECT_TRUE(holds(failure<PluginMissing>(), "/nowhere/libcumeta_cuda.so: no such file"));
}

TEST(CudaPlugin, NotALibrary) {
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() / ("cumeta_not_a_plugin_" + std::to_string(getpid()) + ".so");
  std::ofstream(file) << "text";
  const NamedPlugin named(file.string());
  EXPECT_TRUE(holds(failure<PluginMissing>(), "cannot be loaded"));
  std::filesystem::remove(file);
}

TEST(CudaPlugin, AnotherLibrary) {
  const NamedPlugin named(CUMETA_FOREIGN_PLUGIN);
  EXPECT_TRUE(holds(failure<PluginMismatch>(), "cumeta_plugin_build_id"));
}

TEST(CudaPlugin, AnotherBuild) {
  const NamedPlugin named(CUMETA_OLD_PLUGIN);
  const std::string text = failure<PluginMismatch>();
  EXPECT_TRUE(holds(text, "0.0.1-old")) << text;
}

/// The vendor plugin is asked for after the CUDA plugin, which here is the emulator's.
std::string vendor_failure(const std::string& vendor_plugin) {
  const NamedPlugin cuda(CUMETA_EMULATED_PLUGIN);
  const NamedPlugin vendor(vendor_plugin, "CUMETA_CUDA_VENDOR_PLUGIN");
  const std::string text = failure<PluginMissing>({.vendor = true});
  EXPECT_TRUE(holds(text, vendor_plugin)) << text;
  EXPECT_TRUE(holds(text, "plan.implementation = \"own\"")) << text;
  EXPECT_NO_THROW(open_cuda({})) << "own kernels need no vendor plugin";
  const std::vector<PluginStatus> status = plugin_status();
  EXPECT_EQ(status.at(0).problem, "");
  EXPECT_EQ(status.at(1).problem, text);
  return text;
}

TEST(CudaPlugin, VendorFileMissing) {
  EXPECT_TRUE(holds(vendor_failure("/nowhere/libcumeta_cuda_vendor.so"), "no vendor plugin at"));
}

TEST(CudaPlugin, VendorLibraryMissing) {
  const std::string text = vendor_failure(CUMETA_BROKEN_VENDOR_PLUGIN);
  EXPECT_TRUE(holds(text, "libabsent_vendor.so.9")) << text;
  EXPECT_TRUE(holds(text, "install cuBLAS 13 and cuDNN 9")) << text;
}

TEST(CudaPlugin, VendorOfAnotherKind) {
  const NamedPlugin cuda(CUMETA_EMULATED_PLUGIN);
  const NamedPlugin vendor(CUMETA_FOREIGN_PLUGIN, "CUMETA_CUDA_VENDOR_PLUGIN");
  EXPECT_TRUE(holds(failure<PluginMismatch>({.vendor = true}), "cumeta_open_vendor"));
}

TEST(CudaPlugin, NoDriverNoVendor) {
  const NamedPlugin cuda("/nowhere/libcumeta_cuda.so");
  for (const PluginStatus& plugin : plugin_status()) EXPECT_FALSE(plugin.problem.empty()) << plugin.name;
}

TEST(CudaPlugin, StatusNeverThrows) {
  const NamedPlugin named("/nowhere/libcumeta_cuda.so");
  const CudaStatus status = cuda_status();
  EXPECT_TRUE(status.devices.empty());
  EXPECT_TRUE(holds(status.problem, "no such file"));
}

/// Against the plugin that the environment names, or the emulator's.
class CudaBackendTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::getenv("CUMETA_CUDA_PLUGIN")) named_.emplace(CUMETA_EMULATED_PLUGIN);
    backend_ = open_cuda({.lanes = 2});
  }
  Array array(int tasks, std::int64_t size, std::int64_t stride, Number number = Number::float32) {
    memory_.push_back(backend_->allocate(static_cast<std::size_t>((tasks - 1) * stride + size) *
                                         static_cast<std::size_t>(bytes_of(number))));
    return {memory_.back().get(), tasks, size, stride, number};
  }
  Array uploaded(int tasks, std::int64_t size, std::int64_t stride, const std::vector<double>& numbers) {
    const Array a = array(tasks, size, stride);
    backend_->upload(std::span<const double>(numbers), a);
    return a;
  }
  std::vector<double> read(const Array& a) {
    std::vector<double> numbers(static_cast<std::size_t>((a.stride == 0 ? 1 : a.tasks) * a.size));
    backend_->download(a, numbers);
    return numbers;
  }

  /// A fused block for so many tasks, never run.
  std::unique_ptr<LayerPasses> bind_block(int lane, int tasks, Backend* backend = nullptr) {
    const ConvBlock block{Conv2d{.filters = 4, .kernel = 3, .padding = 1}, BatchNorm{}, false, {}};
    const Geometry geometry{image(4, 4, 4), 1, 1};
    Array scratch = array(1, testing::scratch_numbers(block, geometry, testing::TestDevice::cuda), 0);
    scratch.tasks = tasks;
    return (backend ? *backend : *backend_).lane(lane).bind(Stage{block}, geometry, scratch);
  }

  std::optional<NamedPlugin> named_;
  std::vector<std::shared_ptr<std::byte>> memory_;
  std::unique_ptr<Backend> backend_;
};

std::vector<double> counted(std::size_t count, double first = 0) {
  std::vector<double> numbers(count);
  for (std::size_t i = 0; i < count; ++i) numbers[i] = first + static_cast<double>(i % 1000);
  return numbers;
}

TEST_F(CudaBackendTest, BadOrdinal) {
  for (const int ordinal : {-1, 99}) {
    const std::string text = failure<DeviceMissing>({.ordinal = ordinal});
    EXPECT_TRUE(holds(text, std::to_string(ordinal))) << text;
    EXPECT_TRUE(holds(text, "device")) << text;
  }
}

TEST_F(CudaBackendTest, Tf32NeedsTensorCores) {
  if (!cuda_status().emulated) GTEST_SKIP() << "only the emulator can be an older device";
  setenv("CUMETA_EMULATED_MACHINE", "capability_75", 1);
  const std::string text = failure<DeviceUnsupported>({.tf32 = true});
  EXPECT_TRUE(holds(text, "compute capability 7.5, TF32 needs 8.0")) << text;
  EXPECT_NO_THROW(open_cuda({}));
  unsetenv("CUMETA_EMULATED_MACHINE");
  EXPECT_NO_THROW(open_cuda({.tf32 = true}));
}

TEST_F(CudaBackendTest, StatusListsDevices) {
  const CudaStatus status = cuda_status();
  EXPECT_EQ(status.problem, "");
  ASSERT_FALSE(status.devices.empty());
  EXPECT_GE(status.devices[0].capability, 75);
  EXPECT_GT(status.devices[0].multiprocessors, 0);
  EXPECT_EQ(status.emulated, backend_->name() == "cuda (emulated)");
}

TEST_F(CudaBackendTest, OutOfMemoryNamesBothNumbers) {
  try {
    backend_->allocate(std::size_t{1} << 50);
    FAIL() << "allocated";
  } catch (const OutOfMemory& error) {
    const std::string text = error.what();
    EXPECT_TRUE(holds(text, "1073741824.00 MiB are needed")) << text;
    EXPECT_TRUE(holds(text, "free of")) << text;
  }
  EXPECT_NO_THROW(backend_->allocate(16));
}

TEST_F(CudaBackendTest, TransfersOfAnyShape) {
  struct Shape {
    int tasks;
    std::int64_t size, stride;
  };
  // Rows beside each other, with gaps, more than a staging buffer, a row longer than one.
  for (const Shape s : {Shape{1, 1, 1}, {3, 5, 5}, {3, 5, 9}, {7, 70001, 70004}, {2, 600000, 600001}}) {
    const std::vector<double> numbers = counted(static_cast<std::size_t>(s.tasks * s.size));
    EXPECT_EQ(read(uploaded(s.tasks, s.size, s.stride, numbers)), numbers) << s.tasks << " x " << s.size;
  }
  const Array doubles = array(2, 3, 4, Number::float64);
  const std::vector<double> fine{0.1, 1e-300, 3, 4, 5, 6};
  backend_->upload(std::span<const double>(fine), doubles);
  EXPECT_EQ(read(doubles), fine);
}

TEST_F(CudaBackendTest, UnwrittenMemoryIsNaN) {
  for (const double number : read(array(1, 100, 100))) EXPECT_TRUE(std::isnan(number));
}

TEST_F(CudaBackendTest, Algebra) {
  Lane& lane = backend_->lane(0);
  // 8: four numbers at a time; 7: one at a time; a stride of 0 shares a row.
  for (const std::int64_t size : {8, 7, 1030}) {
    const std::size_t count = static_cast<std::size_t>(3 * size);
    const Array a = uploaded(3, size, size + 4, counted(count)), b = uploaded(3, size, size, counted(count, 2));
    const Array shared = uploaded(1, size, size, counted(static_cast<std::size_t>(size), 1)).shared(3);
    const Array out = array(3, size, size);
    const auto expect = [&](auto formula) {
      const std::vector<double> result = read(out);
      const std::vector<double> left = read(a), right = read(b), row = read(shared);
      for (std::size_t i = 0; i < count; ++i)
        ASSERT_EQ(result[i], formula(left[i], right[i], row[i % static_cast<std::size_t>(size)])) << i;
    };
    lane.subtract(out, a, b), expect([](double x, double y, double) { return x - y; });
    lane.multiply(out, a, shared), expect([](double x, double, double s) { return x * s; });
    lane.add(out, 2, b), expect([](double x, double y, double s) { return x * s + 2 * y; });
    lane.fill(out, 3), expect([](double, double, double) { return 3.0; });
    lane.add_product(out, -0.5, a, b), expect([](double x, double y, double) { return 3 - 0.5 * x * y; });
    lane.descend(out, a, shared, b), expect([](double x, double y, double s) { return x - s * y; });
    lane.copy(shared, out), expect([](double, double, double s) { return s; });
  }
}

TEST_F(CudaBackendTest, RecordingReplaysWithNewData) {
  const Array x = uploaded(4, 6, 6, counted(24)), out = uploaded(4, 6, 6, std::vector<double>(24, 0.0));
  // Chunks of two tasks on two lanes, forked and joined inside the graph.
  const auto recording = backend_->record([&] {
    backend_->for_each_chunk(
        2, 2, [&](int chunk, int lane) { backend_->lane(lane).add(out.rows(2 * chunk, 2), 1, x.rows(2 * chunk, 2)); });
  });
  EXPECT_EQ(recording->kernel_nodes(), 2);
  EXPECT_EQ(read(out), std::vector<double>(24, 0.0)) << "recording must not run";
  recording->run();
  EXPECT_EQ(read(out), counted(24));
  backend_->upload(std::span<const double>(std::vector<double>(24, 1.0)), x);
  recording->run();
  recording->run();
  EXPECT_EQ(read(out), counted(24, 2));
}

TEST_F(CudaBackendTest, UploadsOfARecordingReadTheirBufferAtEveryRun) {
  // Rows with gaps on the device, chunks of two tasks on two lanes; three numbers a task.
  const Array x = array(4, 3, 5), out = uploaded(4, 3, 3, std::vector<double>(12, 0.0));
  const auto buffer = backend_->make_upload_buffer(12 * sizeof(float));
  const Array host{buffer->memory.get(), 4, 3, 3, Number::float32};
  const auto fill_buffer = [&](float first) {
    for (int i = 0; i < 12; ++i) host.row<float>(0)[i] = first + static_cast<float>(i);
  };
  const auto recording = backend_->record([&] {
    backend_->for_each_chunk(2, 2, [&](int chunk, int lane) {
      Lane& on = backend_->lane(lane);
      on.upload(host.rows(2 * chunk, 2), x.rows(2 * chunk, 2));
      on.add(out.rows(2 * chunk, 2), 1, x.rows(2 * chunk, 2));
    });
  });
  EXPECT_EQ(recording->kernel_nodes(), 2) << "copies are no kernels";
  std::vector<double> sum(12, 0.0);
  for (const float first : {1.0F, 100.0F, -7.0F}) {
    buffer->wait();  // the run before has read it; the host goes on before anything has run
    fill_buffer(first);
    recording->run();
    buffer->queued();
    for (std::size_t i = 0; i < 12; ++i) sum[i] += static_cast<double>(first) + static_cast<double>(i);
  }
  EXPECT_EQ(read(out), sum);
  EXPECT_THROW(backend_->make_upload_buffer(std::size_t{1} << 60), OutOfMemory);
}

// Blocks of a lane run in their order: however many are bound, for however many tasks, they share their counters.
TEST_F(CudaBackendTest, FusedBlocksOfALaneShareCounters) {
  std::vector<std::unique_ptr<LayerPasses>> bound;
  for (int i = 0; i < 20; ++i)
    for (const int lane : {0, 1}) ASSERT_NO_THROW(bound.push_back(bind_block(lane, 65535))) << i;
}

// What is bound keeps its counters when its lane gets more, and no other lane has them meanwhile. Of 2^20 counters.
TEST_F(CudaBackendTest, CountersAreHeldByWhoIsBound) {
  auto small = bind_block(0, 100000);
  const auto large = bind_block(0, 125000);
  EXPECT_THROW(bind_block(1, 50000), OutOfMemory);
  EXPECT_THROW(bind_block(0, 300000), OutOfMemory);
  small.reset();
  EXPECT_NO_THROW(bind_block(1, 50000));
  const auto other = open_cuda({.lanes = 2});
  EXPECT_THROW(bind_block(0, 100000, other.get()), OutOfMemory);
}

TEST_F(CudaBackendTest, FailedRecordingLeavesTheBackendUsable) {
  EXPECT_THROW(backend_->record([] { throw InvalidArgument("no"); }), InvalidArgument);
  const Array out = array(1, 4, 4);
  int calls = 0;
  EXPECT_THROW(backend_->record([&] {
    backend_->lane(0).fill(out, 1);
    if (++calls == 2) throw InvalidArgument("in the capture");
  }),
               InvalidArgument);
  backend_->lane(0).fill(out, 5);
  EXPECT_EQ(read(out), std::vector<double>(4, 5.0));
}

}  // namespace
}  // namespace cumeta
