// The checkpoint stream: a written part verifies, and every kind of damage is found and named.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "proto/checkpoint_format/checkpoint_stream.h"
#include "proto/checkpoint_format/crc32c.h"

namespace sinkforge::checkpoint {
namespace {

using testing::HasSubstr;

TEST(Crc32cTest, KnownAnswers) {
  EXPECT_EQ(Crc32c("123456789", 9), 0xE3069283U);
  EXPECT_EQ(Crc32c("", 0), 0U);
  const std::string zeros(32, '\0');
  EXPECT_EQ(Crc32c(zeros.data(), zeros.size()), 0x8A9136AAU);  // RFC 3720, B.4
}

TEST(Crc32cTest, InstructionAndTableAgreeAtEveryLengthAndSplit) {
  std::mt19937 random(3);
  std::string bytes(200, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  for (size_t count = 0; count <= bytes.size(); ++count) {
    const uint32_t whole = Crc32c(bytes.data(), count);
    EXPECT_EQ(whole, Crc32cByTable(bytes.data(), count));
    const size_t cut = count / 3;
    EXPECT_EQ(whole, Crc32c(bytes.data() + cut, count - cut, Crc32c(bytes.data(), cut)));
  }
}

class StreamTest : public testing::Test {
 protected:
  void SetUp() override {
    PartWriter writer([this](const v1::CheckpointData& data) {
      messages_.push_back(data);
      return true;
    });
    const std::vector<float> values(600'000, 1.5F);  // three chunks
    ASSERT_TRUE(writer.AddSlice(Slice("a", "F32", {1000, 600}, 0, 600'000), values.data()));
    ASSERT_TRUE(writer.AddSlice(Slice("c", "F32", {0}, 0, 0), nullptr));
    ASSERT_TRUE(writer.AddSlice(Slice("b", "I64", {10}, 4, 2), values.data()));
    ASSERT_TRUE(writer.Finish("{}"));
  }

  static v1::TensorSlice Slice(const std::string& name, const std::string& dtype,
                               const std::vector<int64_t>& shape, int64_t offset, int64_t length) {
    v1::TensorSlice slice;
    slice.set_name(name);
    slice.set_dtype(dtype);
    for (int64_t dim : shape) slice.add_shape(dim);
    slice.set_offset(offset);
    slice.set_length(length);
    return slice;
  }

  absl::Status VerifyAll() const {
    PartVerifier verifier;
    for (const v1::CheckpointData& data : messages_) {
      const absl::Status status = verifier.Accept(data);
      if (!status.ok()) return status;
    }
    return verifier.Complete();
  }

  std::vector<v1::CheckpointData> messages_;
};

TEST_F(StreamTest, WrittenPartVerifies) {
  ASSERT_EQ(messages_.size(), 3 + 3 + 1 + 1U);
  EXPECT_LE(messages_[1].chunk().data().size(), static_cast<size_t>(kChunkBytesMax));
  EXPECT_TRUE(VerifyAll().ok()) << VerifyAll();
  EXPECT_EQ(messages_.back().trailer().bytes(), 2'400'016);
}

TEST_F(StreamTest, FlippedBitNamesTheChunk) {
  (*messages_[2].mutable_chunk()->mutable_data())[17] ^= 1;
  EXPECT_EQ(VerifyAll().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(VerifyAll().ToString(), HasSubstr("chunk 1 of slice 0 (a) is corrupt"));
}

TEST_F(StreamTest, AnyMissingOrRepeatedMessageIsFound) {
  const auto whole = messages_;
  for (size_t i = 0; i < whole.size(); ++i) {
    messages_ = whole;
    messages_.erase(messages_.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_EQ(VerifyAll().code(), absl::StatusCode::kDataLoss) << "without message " << i;
    messages_ = whole;
    messages_.insert(messages_.begin() + static_cast<std::ptrdiff_t>(i), whole[i]);
    EXPECT_EQ(VerifyAll().code(), absl::StatusCode::kDataLoss) << "with message " << i << " twice";
  }
}

TEST_F(StreamTest, NewerSchemaIsRefusedAsSuch) {
  messages_.back().mutable_trailer()->set_schema_version(2);
  EXPECT_EQ(VerifyAll().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(VerifyAll().ToString(), HasSubstr("schema version 2 is newer"));
  messages_.back().mutable_trailer()->set_schema_version(0);
  EXPECT_EQ(VerifyAll().code(), absl::StatusCode::kDataLoss);
}

TEST_F(StreamTest, ImpossibleSlicesAreRefused) {
  const v1::TensorSlice bad[] = {
      Slice("", "F32", {1}, 0, 1),          Slice("x", "F33", {1}, 0, 1),
      Slice("x", "F32", {-1}, 0, 1),        Slice("x", "F32", {4}, 3, 2),
      Slice("x", "F32", {4}, -1, 2),        Slice("x", "F32", {4}, 0, -2),
      Slice("x", "F32", {4}, 5, INT64_MAX), Slice("x", "F32", {1LL << 40, 1LL << 40}, 0, 1)};
  for (const v1::TensorSlice& slice : bad) {
    v1::CheckpointData data;
    *data.mutable_slice() = slice;
    PartVerifier verifier;
    EXPECT_EQ(verifier.Accept(data).code(), absl::StatusCode::kDataLoss);
  }
}

TEST_F(StreamTest, StopsWhenTheSinkStops) {
  int taken = 0;
  PartWriter writer([&](const v1::CheckpointData&) { return ++taken < 2; });
  const std::vector<float> values(600'000, 1);
  EXPECT_FALSE(writer.AddSlice(Slice("a", "F32", {600'000}, 0, 600'000), values.data()));
  EXPECT_EQ(taken, 2);
}

}  // namespace
}  // namespace sinkforge::checkpoint
