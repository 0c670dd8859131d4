// Safetensors: what is written comes back, and every broken file is refused with its reason.
#include "proto/safetensors/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

namespace sinkforge::safetensors {
namespace {

using testing::HasSubstr;

class SafetensorsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "safetensorsXXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = (folder_ / "a.safetensors").string();
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // A file with `header` and `data_bytes` bytes after it.
  void WriteRaw(const std::string& header, size_t data_bytes) {
    std::string text;
    for (unsigned i = 0; i < 8; ++i) {
      text += static_cast<char>((header.size() >> (8 * i)) & 0xFFU);
    }
    std::ofstream(path_, std::ios::binary) << text << header << std::string(data_bytes, 'x');
  }

  std::string OpenFailure() {
    Failure failure;
    return Reader::Open(path_, &failure) == nullptr ? failure.message : "opened";
  }

  bool WriteSample() {
    Failure failure;
    auto writer =
        Writer::Create(path_, {{"b", "F32", {2, 3}}, {"empty", "I64", {0, 5}}, {"a", "U8", {3}}},
                       {{kSchemaVersionKey, "1"}, {"note", "x \"y\""}}, &failure);
    if (writer == nullptr) return false;
    const float values[6] = {1, 2, 3, 4, 5, 6};
    return writer->Append(values, 10, &failure) &&
           writer->Append(reinterpret_cast<const char*>(values) + 10, 14, &failure) &&
           writer->Append("xyz", 3, &failure) && writer->Finish(&failure);
  }

  std::filesystem::path folder_;
  std::string path_;
};

TEST_F(SafetensorsTest, WhatIsWrittenIsRead) {
  ASSERT_TRUE(WriteSample());
  Failure failure;
  const auto reader = Reader::Open(path_, &failure);
  ASSERT_NE(reader, nullptr) << failure.message;
  ASSERT_EQ(reader->tensors().size(), 3U);
  EXPECT_EQ(reader->metadata().at("note"), "x \"y\"");
  const TensorInfo* b = reader->Find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->shape, (std::vector<int64_t>{2, 3}));
  float values[6];
  ASSERT_TRUE(reader->Read(*b, 0, 24, values, &failure));
  EXPECT_EQ(values[5], 6);
  ASSERT_TRUE(reader->Read(*b, 4, 4, values, &failure));
  EXPECT_EQ(values[0], 2);
  EXPECT_FALSE(reader->Read(*b, 20, 5, values, &failure));
  EXPECT_FALSE(reader->Read(*b, -1, 1, values, &failure));
  char text[3];
  ASSERT_TRUE(reader->Read(*reader->Find("a"), 0, 3, text, &failure));
  EXPECT_EQ(std::string(text, 3), "xyz");
  EXPECT_EQ(reader->Find("c"), nullptr);
}

TEST_F(SafetensorsTest, DataBeginAtAMultipleOfEight) {
  ASSERT_TRUE(WriteSample());
  std::ifstream file(path_, std::ios::binary);
  unsigned char length = 0;
  file.read(reinterpret_cast<char*>(&length), 1);
  EXPECT_EQ(length % 8, 0);
  EXPECT_FALSE(std::filesystem::exists(path_ + ".partial"));
}

TEST_F(SafetensorsTest, UnfinishedWriterLeavesNothing) {
  Failure failure;
  {
    auto writer = Writer::Create(path_, {{"a", "U8", {4}}}, {}, &failure);
    ASSERT_NE(writer, nullptr);
    EXPECT_TRUE(writer->Append("ab", 2, &failure));
    EXPECT_FALSE(writer->Append("cde", 3, &failure));
    EXPECT_THAT(failure.message, HasSubstr("more bytes"));
    EXPECT_FALSE(writer->Finish(&failure));
    EXPECT_THAT(failure.message, HasSubstr("fewer bytes"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(SafetensorsTest, ImpossibleAnnouncementsAreRefused) {
  Failure failure;
  EXPECT_EQ(Writer::Create(path_, {{"a", "U8", {1}}, {"a", "U8", {1}}}, {}, &failure), nullptr);
  EXPECT_EQ(Writer::Create(path_, {{"a", "F7", {1}}}, {}, &failure), nullptr);
  EXPECT_EQ(Writer::Create(path_, {{"a", "F32", {-1}}}, {}, &failure), nullptr);
  EXPECT_EQ(Writer::Create(path_, {{"a", "F32", {1LL << 40, 1LL << 40}}}, {}, &failure), nullptr);
  EXPECT_EQ(Writer::Create("/nonexistent/x", {}, {}, &failure), nullptr);
  EXPECT_THAT(failure.message, HasSubstr("/nonexistent/x: cannot be written"));
  EXPECT_NE(failure.error_number, 0);
}

TEST_F(SafetensorsTest, FullDiskIsReported) {
  Failure failure;
  std::filesystem::create_symlink("/dev/full", path_ + ".partial");
  EXPECT_EQ(Writer::Create(path_, {{"a", "U8", {4}}}, {}, &failure), nullptr);
  EXPECT_EQ(failure.error_number, ENOSPC);
  EXPECT_THAT(failure.message, HasSubstr("free some space"));
}

TEST_F(SafetensorsTest, BrokenFilesAreRefusedWithTheReason) {
  const auto entry = [](const std::string& rest) { return "{\"a\":{" + rest + "}}"; };
  const struct {
    std::string header;
    size_t data_bytes;
    std::string says;
  } cases[] = {
      {"", 0, "not JSON"},
      {"[1]", 0, "not JSON"},
      {"{\"a\"", 0, "not JSON"},
      {entry(R"("dtype":"U8","shape":[1],"data_offsets":[0,1])") + "x", 1, "not JSON"},
      {entry(R"("dtype":"U8","shape":[1])"), 1, "must have dtype"},
      {entry(R"("dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1)"), 1, "nothing else"},
      {entry(R"("dtype":"Q8","shape":[1],"data_offsets":[0,1])"), 1, "unknown dtype"},
      {entry(R"("dtype":8,"shape":[1],"data_offsets":[0,1])"), 1, "unknown dtype"},
      {entry(R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])"), 1, "impossible shape"},
      {entry(R"("dtype":"U8","shape":[1.5],"data_offsets":[0,1])"), 1, "impossible shape"},
      {entry(R"("dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,1])"), 1,
       "impossible shape"},
      {entry(R"("dtype":"U8","shape":[4611686018427387904,4],"data_offsets":[0,1])"), 1,
       "do not fit"},
      {entry(R"("dtype":"U8","shape":[1],"data_offsets":[1,0])"), 1, "impossible data_offsets"},
      {entry(R"("dtype":"U8","shape":[2],"data_offsets":[0,1])"), 1, "do not fit"},
      {entry(R"("dtype":"U8","shape":[[1]],"data_offsets":[0,1])"), 1, "nested too deeply"},
      {entry(R"("dtype":"U8","shape":[1],"data_offsets":[1,2])"), 2, "hole"},
      {entry(R"("dtype":"U8","shape":[2],"data_offsets":[0,2])"), 1, "truncated"},
      {entry(R"("dtype":"U8","shape":[1],"data_offsets":[0,1])"), 2, "truncated"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
       R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
       2, "key a twice"},
      {R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1,
       "key dtype twice"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, "overlaps"},
      {R"({"__metadata__":{"a":1}})", 0, "non-text"},
      {R"({"__metadata__":3})", 0, "not an object"},
      {R"({"__metadata__":{"sinkforge_schema_version":"2"}})", 0, "schema version 2"},
  };
  for (const auto& c : cases) {
    WriteRaw(c.header, c.data_bytes);
    EXPECT_THAT(OpenFailure(), HasSubstr(c.says)) << c.header;
    EXPECT_THAT(OpenFailure(), HasSubstr(path_));
  }
  std::ofstream(path_, std::ios::binary) << "abc";
  EXPECT_THAT(OpenFailure(), HasSubstr("too short"));
  std::ofstream(path_, std::ios::binary) << std::string(20, '\xff');
  EXPECT_THAT(OpenFailure(), HasSubstr("truncated"));
  std::filesystem::remove(path_);
  EXPECT_THAT(OpenFailure(), HasSubstr("No such file"));
}

// Random damage: whatever the bytes, the reader opens or refuses, and never reads outside the file.
TEST_F(SafetensorsTest, RandomDamageNeverCrashes) {
  ASSERT_TRUE(WriteSample());
  std::ifstream file(path_, std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(file)), {});
  std::mt19937 random(11);  // fixed, so that a failure repeats
  for (int round = 0; round < 2000; ++round) {
    std::string bad = good;
    for (size_t edit = 0; edit <= random() % 4; ++edit) {
      bad[random() % bad.size()] = static_cast<char>(random());
    }
    if (random() % 4 == 0) bad.resize(random() % bad.size());
    std::ofstream(path_, std::ios::binary) << bad;
    Failure failure;
    const auto reader = Reader::Open(path_, &failure);
    if (reader == nullptr) {
      ASSERT_FALSE(failure.message.empty());
      continue;
    }
    for (const TensorInfo& tensor : reader->tensors()) {
      std::vector<char> bytes(static_cast<size_t>(tensor.bytes()));
      ASSERT_TRUE(reader->Read(tensor, 0, tensor.bytes(), bytes.data(), &failure));
    }
  }
}

}  // namespace
}  // namespace sinkforge::safetensors
