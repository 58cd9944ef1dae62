// SPDX-License-Identifier: Apache-2.0
// A machine whose CUDA device cannot be used, as the emulator plays it: each failure is one line of its own type that
// says what to do, nothing runs on the CPU instead, and the process goes on as if nobody had asked.
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <typeinfo>

#include "cumeta/cumeta.h"
#include "src/cuda_plugin.h"
#include "tests/support/test_tolerances.h"

namespace cumeta {
namespace {

/// Sets a variable of the environment until the end of a scope.
class Setting {
 public:
  Setting(const char* name, const std::string& value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    setenv(name, value.c_str(), 1);
  }
  ~Setting() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

/// A model that runs layer by layer, its last two as one row.
Learner learner_on(Device device, std::int64_t memory_limit = 0) {
  const Model model{.input = image(4, 4, 2),
                    .layers = {Conv2d{.filters = 3, .kernel = 3, .stride = 1, .padding = 1}, Relu{},
                               GlobalAveragePool{}, Linear{.outputs = 2}},
                    .loss = SoftmaxCrossEntropy{}};
  return Learner(model, Maml{.steps = 1, .rate = 0.1}, {.device = device, .memory_limit = memory_limit});
}
double update(Learner& learner, int tasks = 2) {
  const std::vector<float> x(static_cast<std::size_t>(tasks * 2 * 32), 0.5f);
  std::vector<float> y(static_cast<std::size_t>(tasks * 2), 0.0f);
  for (std::size_t i = 0; i < y.size(); i += 2) y[i] = 1;
  return learner.meta_update({.tasks = tasks, .support = {2, x, y}, .query = {2, x, y}}).loss;
}
double loss_on(Device device) {
  Learner learner = learner_on(device);
  return update(learner);
}

/// The one line of the exception that `call` throws.
template <class Exception, class Call>
std::string line_of(Call&& call) {
  try {
    call();
  } catch (const Exception& error) {
    const std::string text = error.what();
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    return text;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another type: " << error.what();
    return {};
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}
::testing::AssertionResult holds(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "`" << part << "` is not in: " << text;
}

class CudaErrors : public ::testing::Test {
 protected:
  CudaErrors() : plugin_("CUMETA_CUDA_PLUGIN", CUMETA_EMULATED_PLUGIN) {}
  Setting plugin_;
};

struct Trouble {
  const char *machine, *words, *remedy;
  bool (*is_its_type)(const DeviceUnavailable& error);
};
/// Of exactly this type: a base would serve every cause.
template <class Exception>
bool is(const DeviceUnavailable& error) {
  return typeid(error) == typeid(Exception);
}
class CudaTrouble : public CudaErrors, public ::testing::WithParamInterface<Trouble> {};

TEST_P(CudaTrouble, IsOneLineAndTheProcessGoesOn) {
  const double expected = loss_on(Device::cpu);
  {
    const Setting machine("CUMETA_EMULATED_MACHINE", GetParam().machine);
    const std::string text = line_of<DeviceUnavailable>([] {
      try {
        learner_on(Device::cuda);
      } catch (const DeviceUnavailable& error) {
        EXPECT_TRUE(GetParam().is_its_type(error)) << typeid(error).name();
        throw;
      }
    });
    EXPECT_EQ(text.rfind("cuda: ", 0), 0u) << text;
    EXPECT_TRUE(holds(text, GetParam().words));
    EXPECT_TRUE(holds(text, GetParam().remedy));
    EXPECT_EQ(loss_on(Device::cpu), expected);
  }
  EXPECT_NEAR(loss_on(Device::cuda), expected, testing::kUpdateTolerance);
}
INSTANTIATE_TEST_SUITE_P(
    , CudaTrouble,
    ::testing::Values(
        Trouble{"no_driver", "no NVIDIA driver is loaded", "install one for CUDA 13", is<DriverMissing>},
        Trouble{"old_driver", "the driver supports CUDA 12.4, this build needs 13", "update the driver",
                is<DriverTooOld>},
        Trouble{"no_device", "a driver is there but no device", "CUDA_VISIBLE_DEVICES", is<DeviceMissing>},
        Trouble{"busy", "cannot be opened", "another process may hold it", is<DeviceUnavailable>},
        Trouble{"capability_6", "compute capability 6.0", "the oldest supported is 7.5", is<DeviceUnsupported>},
        Trouble{"no_kernels", "holds no kernels", "-DCUMETA_CUDA_ARCHITECTURES=90", is<DeviceUnsupported>}),
    [](const auto& instance) { return std::string(instance.param.machine); });

TEST_F(CudaErrors, InfoSaysWhyThereIsNoDevice) {
  const Setting machine("CUMETA_EMULATED_MACHINE", "old_driver");
  for (const DeviceStatus& status : device_status())
    if (status.device == Device::cuda) {
      EXPECT_FALSE(status.available);
      EXPECT_TRUE(holds(status.text, "update the driver"));
    }
}

TEST_F(CudaErrors, ALimitOfMemoryNamesBothNumbersBeforeAnythingRuns) {
  Learner learner = learner_on(Device::cuda, 100'000);
  const std::string text = line_of<OutOfMemory>([&] { update(learner, 1000); });
  EXPECT_TRUE(holds(text, "needs at least"));
  EXPECT_TRUE(holds(text, "the limit is 100000; raise memory_limit"));
  EXPECT_GT(update(learner, 2), 0);  // a smaller update of the same learner fits
}

// A fault or a small device stays for a process's life, so each has a process of its own.
using CudaErrorsDeathTest = CudaErrors;

[[noreturn]] void leave() { std::exit(::testing::Test::HasFailure() ? 1 : 0); }

TEST_F(CudaErrorsDeathTest, ASmallDeviceIsSaidBeforeAnythingRuns) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto child = [] {
    const Setting memory("CUMETA_EMULATED_MEMORY", "3000000");
    Learner learner = learner_on(Device::cuda);
    const std::string planned = line_of<OutOfMemory>([&] { update(learner, 50'000); });
    EXPECT_TRUE(holds(planned, "needs at least"));
    EXPECT_TRUE(holds(planned, "the device has 3000000; lower tasks or examples"));
    EXPECT_NEAR(update(learner), loss_on(Device::cpu), testing::kUpdateTolerance);
    leave();
  };
  EXPECT_EXIT(child(), ::testing::ExitedWithCode(0), "");
}

TEST_F(CudaErrorsDeathTest, AKernelsFaultNamesItsRemedyAndInDebugTheOp) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto child = [](bool debug) {
    const Setting fault("CUMETA_EMULATED_FAULT", "pooled linear backward"), mode("CUMETA_CUDA_DEBUG", debug ? "1" : "");
    const double expected = loss_on(Device::cpu);
    {
      Learner learner = learner_on(Device::cuda);
      const std::string text = line_of<DeviceFault>([&] { update(learner); });
      EXPECT_TRUE(holds(text, "illegal memory access"));
      EXPECT_TRUE(holds(text, "the device is lost to this process, start it again"));
      if (debug) {
        EXPECT_TRUE(holds(text, "cuda: pooled linear backward: "));
        EXPECT_TRUE(holds(text, "grid "));
        EXPECT_TRUE(holds(text, "kernels/layers/pooled_linear_cuda.cu:"));
      } else {
        EXPECT_TRUE(holds(text, "CUMETA_CUDA_DEBUG=1"));
      }
      line_of<DeviceFault>([&] { update(learner); });
    }
    EXPECT_TRUE(holds(line_of<DeviceFault>([] { learner_on(Device::cuda); }), "start it again"));
    EXPECT_EQ(loss_on(Device::cpu), expected);
    leave();
  };
  EXPECT_EXIT(child(false), ::testing::ExitedWithCode(0), "");
  EXPECT_EXIT(child(true), ::testing::ExitedWithCode(0), "");
}

TEST_F(CudaErrors, DebugRunsTheSameNumbers) {
  const double recorded = loss_on(Device::cuda);
  const Setting debug("CUMETA_CUDA_DEBUG", "1");
  EXPECT_EQ(loss_on(Device::cuda), recorded);
}

}  // namespace
}  // namespace cumeta
