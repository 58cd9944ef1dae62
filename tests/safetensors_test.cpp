// SPDX-License-Identifier: Apache-2.0
// Safetensors: what is written is read; every malformed, truncated or flipped file is refused in one line.
#include "src/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

#include "cumeta/error.h"

namespace cumeta::safetensors {
namespace {

namespace fs = std::filesystem;

class Safetensors : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              (testing::UnitTest::GetInstance()->current_test_info()->name() + std::to_string(::getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const std::string& name = "a.safetensors") const { return (folder_ / name).string(); }
  static std::string bytes_of(const std::string& path) {
    std::ifstream stream(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  static void put(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  /// A file of this header and so many bytes of data.
  std::string put_header(const std::string& header, std::size_t data) const {
    std::string bytes(8, '\0');
    const std::uint64_t size = header.size();
    std::memcpy(bytes.data(), &size, 8);
    put(path(), bytes + header + std::string(data, '\1'));
    return path();
  }
  /// The message with which the file is refused; empty when it is accepted.
  static std::string refusal(const std::string& path, Checksum checksum = Checksum::if_present) {
    try {
      read(path, checksum);
      return "";
    } catch (const FileError& error) {
      const std::string text = error.what();
      EXPECT_EQ(text.find('\n'), std::string::npos) << text;
      EXPECT_TRUE(text.starts_with(path)) << text;
      return text;
    }
  }
  static File example() {
    File file;
    const float f[] = {1.5F, -2, 3, 0, 5, 6};
    const double d[] = {0.1, -1e300};
    const std::int64_t l[] = {-1, std::int64_t{1} << 40, 2};
    const std::int32_t i[] = {7};
    const std::uint8_t u[] = {1, 2, 255};
    file.tensors["layers.0.weight"] = tensor(std::span<const float>(f), {2, 3});
    file.tensors["double"] = tensor(std::span<const double>(d), {2, 1});
    file.tensors["labels"] = tensor(std::span<const std::int64_t>(l), {3});
    file.tensors["scalar"] = tensor(std::span<const std::int32_t>(i), {});
    file.tensors["bytes"] = tensor(std::span<const std::uint8_t>(u), {3});
    file.tensors["none"] = tensor(std::span<const float>(), {0, 4});
    file.metadata["recipe"] = "a = \"b\"\nc";
    return file;
  }

  fs::path folder_;
};

TEST_F(Safetensors, WhatIsWrittenIsRead) {
  const File wrote = example();
  write(path(), wrote);
  const File got = read(path(), Checksum::required);
  EXPECT_EQ(got.metadata, wrote.metadata);
  ASSERT_EQ(got.tensors.size(), wrote.tensors.size());
  for (const auto& [name, value] : wrote.tensors) {
    const Tensor& again = got.at(name, path());
    EXPECT_EQ(again.type, value.type) << name;
    EXPECT_EQ(again.shape, value.shape) << name;
    EXPECT_EQ(again.bytes, value.bytes) << name;
  }
  EXPECT_EQ(floats(got.at("layers.0.weight", "")), (std::vector<float>{1.5F, -2, 3, 0, 5, 6}));
  EXPECT_EQ(doubles(got.at("bytes", "")), (std::vector<double>{1, 2, 255}));
  EXPECT_EQ(integers(got.at("labels", "")), (std::vector<std::int64_t>{-1, std::int64_t{1} << 40, 2}));
  EXPECT_THROW(integers(got.at("double", "")), InvalidArgument);
  EXPECT_THROW(got.at("absent", path()), FileError);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "a temporary file was left";
}

TEST_F(Safetensors, EqualContentIsAnEqualFileAndTensorsAreAligned) {
  write(path("a"), example());
  write(path("b"), read(path("a")));
  const std::string bytes = bytes_of(path("a"));
  EXPECT_EQ(bytes, bytes_of(path("b")));
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  EXPECT_EQ(header % 8, 0U);
  const std::string text = bytes.substr(8, header);
  EXPECT_LT(text.find("\"double\""), text.find("\"labels\"")) << "wide types first, then by name";
  EXPECT_LT(text.find("\"labels\""), text.find("\"layers.0.weight\""));
  EXPECT_LT(text.find("\"scalar\""), text.find("\"bytes\""));
}

TEST_F(Safetensors, EveryTruncationIsRefused) {
  write(path("whole"), example());
  const std::string whole = bytes_of(path("whole"));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    put(path("cut"), whole.substr(0, size));
    EXPECT_NE(refusal(path("cut")), "") << size;
  }
  put(path("cut"), whole + '\0');
  EXPECT_NE(refusal(path("cut")), "");
}

TEST_F(Safetensors, EveryBitFlipIsRefused) {
  write(path("whole"), example());
  const std::string whole = bytes_of(path("whole"));
  for (std::size_t byte = 0; byte < whole.size(); ++byte)
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = whole;
      flipped[byte] = static_cast<char>(flipped[byte] ^ (1 << bit));
      put(path("flipped"), flipped);
      EXPECT_NE(refusal(path("flipped"), Checksum::required), "") << "byte " << byte << " bit " << bit;
      refusal(path("flipped"), Checksum::if_present);  // may be another valid file, but must not crash
    }
}

TEST_F(Safetensors, FilesFromElsewhereNeedNoChecksum) {
  const std::string file = put_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}   )", 8);
  EXPECT_EQ(refusal(file), "");
  EXPECT_NE(refusal(file, Checksum::required).find("no checksum"), std::string::npos);
  EXPECT_EQ(refusal(put_header("{}", 0)), "");
}

TEST_F(Safetensors, MalformedHeadersAreRefused) {
  const auto refused = [&](const std::string& header, std::size_t data, const char* reason) {
    const std::string text = refusal(put_header(header, data));
    EXPECT_NE(text.find(reason), std::string::npos) << header << "\n" << text;
  };
  refused("[]", 0, "does not begin with");
  refused("{\"a\"", 0, "not JSON");
  refused(" {}", 0, "does not begin with");
  refused(R"({"a":1})", 0, "needs dtype");
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}})", 4, "nothing else");
  refused(R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})", 2, "F16");
  refused(R"({"a":{"dtype":3,"shape":[1],"data_offsets":[0,2]}})", 2, "type 3");
  refused(R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,4]}})", 4, "not a list");
  refused(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "whole number");
  refused(R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4, "whole number");
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "two numbers");
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, "outside");
  refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4, "outside");
  refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, "which needs 8");
  refused(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0, "too large");
  refused(R"({"a":{"dtype":"F32","shape":[18446744073709551615,0],"data_offsets":[0,0]}})", 0, "too large");
  refused(R"({"a":{"dtype":"U8","shape":[1e999],"data_offsets":[0,0]}})", 0, "not JSON");
  refused(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})", 3, "begins at byte 1");
  refused(
      R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})", 3,
      "begins at byte 1");
  refused(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 3, "3 bytes of data");
  refused(
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2,
      "twice");
  refused(R"({"__metadata__":{"k":1}})", 0, "not a text");
  refused(R"({"__metadata__":[]})", 0, "not an object");
  refused(R"({"__metadata__":{"k":"1","k":"2"}})", 0, "twice");
  refused(R"({"__metadata__":{"cumeta.crc32":"123"}})", 0, "8 digits");
  refused("{" + std::string(50, '['), 0, "not JSON");
  refused(R"({"a":)" + std::string(100, '['), 0, "nested");
  std::string huge(16, '\xff');
  put(path(), huge);
  EXPECT_NE(refusal(path()).find("truncated"), std::string::npos);
}

TEST_F(Safetensors, MissingAndForeignFilesAreRefused) {
  EXPECT_NE(refusal(path("absent")).find("cannot be opened"), std::string::npos);
  EXPECT_NE(refusal(folder_.string()).find("not a regular file"), std::string::npos);
  put(path(), "PK\3\4 this is another kind of file");
  EXPECT_NE(refusal(path()), "");
}

TEST_F(Safetensors, AFailedWriteLeavesTheOldFileAndNothingNew) {
  write(path(), example());
  const std::string before = bytes_of(path());
  File bad = example();
  bad.tensors["short"] = Tensor{Type::f32, {2}, {}};
  EXPECT_THROW(write(path(), bad), InvalidArgument);
  bad = example();
  bad.tensors["\xff"] = Tensor{Type::f32, {0}, {}};
  EXPECT_THROW(write(path(), bad), InvalidArgument);
  EXPECT_THROW(write(path("no/folder"), example()), FileError);
  fs::create_directory(path("folder"));
  EXPECT_THROW(write(path("folder"), example()), FileError);
  fs::remove(path("folder"));
  EXPECT_EQ(bytes_of(path()), before);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

}  // namespace
}  // namespace cumeta::safetensors
