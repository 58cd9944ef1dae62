// SPDX-License-Identifier: Apache-2.0
// What the program writes: whole files or none, through links and into devices, one training a folder, and an error
// when standard output takes nothing.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "cumeta/error.h"
#include "cumeta/tensor_file.h"
#include "src/atomic_file.h"
#include "tests/support/pictures.h"
#include "tests/support/program.h"

namespace cumeta::test {
namespace {

namespace fs = std::filesystem;

void write(const std::string& path, const std::string& text) { write_atomically(path, std::as_bytes(std::span(text))); }
std::string text_of(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}
int files_in(const std::string& folder) {
  return static_cast<int>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

class OutputFiles : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  Finished run(const std::vector<std::string>& arguments) {
    return Process(CUMETA_PROGRAM, arguments, folder_.path()).wait();
  }
  Finished shell(const std::string& command) { return Process("/bin/sh", {"-c", command}, folder_.path()).wait(); }
  Folder folder_;
};

TEST_F(OutputFiles, ALinkStaysALink) {
  fs::create_directory(path("there"));
  fs::create_symlink("there/target", path("link"));
  write(path("link"), "one");
  write(path("link"), "two");
  EXPECT_TRUE(fs::is_symlink(path("link")));
  EXPECT_EQ(text_of(path("there/target")), "two");
  EXPECT_EQ(files_in(path("there")), 1);
}

TEST_F(OutputFiles, APipeTakesTheBytes) {
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  std::string read;
  std::thread reader([&] { read = text_of(path("pipe")); });
  write(path("pipe"), "through");
  reader.join();
  EXPECT_EQ(read, "through");
  EXPECT_TRUE(fs::is_fifo(path("pipe")));
}

TEST_F(OutputFiles, AFileThatCannotBeWrittenLeavesTheOldOneAndNothingElse) {
  fs::create_directory(path("folder"));
  EXPECT_THROW(write(path("folder"), "text"), FileError);
  EXPECT_THROW(write(path("nowhere/file"), "text"), FileError);
  EXPECT_EQ(files_in(folder_.path()), 1);
  EXPECT_EQ(files_in(path("folder")), 0);
}

TEST_F(OutputFiles, ANeighbourOfTheSameNameIsNotTouched) {
  std::ofstream(path("file.tmp")) << "mine";
  write(path("file"), "text");
  EXPECT_EQ(text_of(path("file.tmp")), "mine");
  EXPECT_EQ(files_in(folder_.path()), 2);
}

TEST_F(OutputFiles, TensorsThatNoReaderWouldTakeAreRefused) {
  TensorFile negative, broken;
  negative.tensors["a"] = {FileTensor::Type::float32, {-1, -1}, {1}};
  EXPECT_THROW(write_tensors(path("a"), negative), InvalidArgument);
  for (const double value : {0.5, 1e300, std::nan("")}) {
    broken.tensors["b"] = {FileTensor::Type::int64, {1}, {value}};
    EXPECT_THROW(write_tensors(path("b"), broken), InvalidArgument) << value;
  }
  EXPECT_EQ(files_in(folder_.path()), 0);
}

TEST_F(OutputFiles, StandardOutputThatTakesNothingIsAnError) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  for (const std::string& command : std::vector<std::string>{"plan --json", "--help", "--version", "info"}) {
    const Finished done = shell(std::string(CUMETA_PROGRAM) + " " + command + " > /dev/full");
    EXPECT_EQ(done.status, 1) << command;
    EXPECT_NE(done.error.find("standard output cannot be written"), std::string::npos) << command << done.error;
  }
}

TEST_F(OutputFiles, AFolderThatIsNoUtf8StillGivesJson) {
  const std::string name = path("run\xff");
  const Finished done = run({"train", "--out", name, "--set", "run.updates=1", "--json"});
  EXPECT_EQ(done.status, 0) << done.error;
  EXPECT_TRUE(nlohmann::json::parse(done.out, nullptr, false).is_object()) << done.out;
}

TEST_F(OutputFiles, OneTrainingAFolder) {
  Process first(CUMETA_PROGRAM,
                {"train", "--out", path("run"), "--set", "run.updates=100000000", "--set", "run.checkpoint_every=1"},
                folder_.path());
  while (first.running() && !fs::exists(path("run/last.safetensors"))) usleep(1000);
  fs::create_directory(path("second"));
  const Finished second = Process(CUMETA_PROGRAM, {"train", "--resume", path("run")}, path("second")).wait();
  EXPECT_EQ(second.status, 1);
  EXPECT_NE(second.error.find("another training is at work"), std::string::npos) << second.error;
  EXPECT_TRUE(first.running());
  first.signal(SIGTERM);
  EXPECT_EQ(first.wait().status, 0);
  // What a killed training left unfinished goes when the next one begins.
  std::ofstream(path("run/last.safetensors.1-1.unfinished")) << "half";
  EXPECT_EQ(run({"train", "--resume", path("run"), "--set", "run.updates=1"}).status, 0);
  EXPECT_FALSE(fs::exists(path("run/last.safetensors.1-1.unfinished")));
}

TEST_F(OutputFiles, AFileBeyondItsLimitIsAnErrorOfTheWrite) {
  const Finished done =
      shell("ulimit -f 16; " + std::string(CUMETA_PROGRAM) + " train --out " + path("run") + " --set run.updates=1");
  EXPECT_EQ(done.status, 1) << done.error;
  EXPECT_NE(done.error.find(".safetensors: cannot be written"), std::string::npos) << done.error;
  for (const auto& entry : fs::directory_iterator(path("run"))) EXPECT_NE(entry.path().extension(), ".unfinished");
}

TEST_F(OutputFiles, AdaptReadsItsQueryBeforeItWrites) {
  ASSERT_EQ(run({"train", "--out", path("run"), "--set", "run.updates=1"}).status, 0);
  TensorFile file;
  file.tensors["x"] = {FileTensor::Type::float32, {2, 1}, {1, 2}};
  file.tensors["y"] = {FileTensor::Type::float32, {2, 1}, {1, 2}};
  write_tensors(path("support"), file);
  const std::string out = path("adapted");
  EXPECT_EQ(run({"adapt", path("run"), "--support", path("support"), "--query", path("none"), "--output", out}).status,
            1);
  EXPECT_FALSE(fs::exists(out));
  fs::create_directories(path("classes/a"));
  const Finished folder = run({"adapt", path("run"), "--support", path("classes"), "--output", out});
  EXPECT_EQ(folder.status, 1);
  EXPECT_NE(folder.error.find("the run is a regression"), std::string::npos) << folder.error;
}

}  // namespace
}  // namespace cumeta::test
