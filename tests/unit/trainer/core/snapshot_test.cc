// Snapshots: cut into the slices of several ranks, put together for any number of ranks, and
// refused with the tensor's name where they do not fit.
#include <algorithm>

#include "gmock/gmock.h"
#include "tests/unit/trainer/core/test_support.h"
#include "worker/trainer/core/model_difference.h"
#include "worker/trainer/core/parameters.h"
#include "worker/trainer/core/share.h"

namespace sinkforge::trainer {
namespace {

using kernels::StatusCode;
using ::testing::HasSubstr;

class SnapshotTest : public ::testing::Test {
 protected:
  Rig Make(const TrainingConfig& config) {
    RigOptions options;
    options.train = &data_;
    return MakeRig(config, std::move(options));
  }

  Snapshot Trained() {
    Rig rig = Make(SmallJob());
    StepReport report;
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(rig.trainer->Step(&report, nullptr).ok());
    return rig.trainer->TakeSnapshot();
  }

  static SnapshotTensor& Find(Snapshot& snapshot, const std::string& name) {
    const auto found = std::find_if(snapshot.tensors.begin(), snapshot.tensors.end(),
                                    [&](const auto& tensor) { return tensor.name == name; });
    SINKFORGE_CHECK(found != snapshot.tensors.end());
    return *found;
  }

  // A refused snapshot names the tensor and changes nothing.
  void ExpectRefused(const Snapshot& snapshot, const std::string& name, const std::string& what) {
    Rig rig = Make(SmallJob());
    const Snapshot before = rig.trainer->TakeSnapshot();
    const kernels::Status status = rig.trainer->Restore(snapshot);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr(name));
    EXPECT_THAT(status.message(), HasSubstr(what));
    EXPECT_TRUE(SameBytes(rig.trainer->TakeSnapshot(), before));
  }

  const std::string matrix_ = "transformer.h.1.mlp.c_proj.weight";
  MemoryDataset data_{SyntheticTokens(500, 13, 1), 8};
};

TEST(ShareTest, DividesIntoPartsThatDifferByOne) {
  for (int64_t total : {0, 1, 5, 12}) {
    for (int64_t count : {1, 2, 3, 4, 7}) {
      int64_t next = 0;
      for (int64_t index = 0; index < count; ++index) {
        const Share share = ShareOf(total, index, count);
        EXPECT_EQ(share.first, next);
        EXPECT_GE(share.size, total / count);
        EXPECT_LE(share.size, total / count + 1);
        next += share.size;
      }
      EXPECT_EQ(next, total);
    }
  }
}

TEST_F(SnapshotTest, SlicesOfSeveralRanksMakeTheWhole) {
  const Snapshot whole = Trained();
  for (const int ranks : {2, 3, 4}) {
    std::vector<Snapshot> slices(static_cast<size_t>(ranks));
    RunRanks(ranks, [&](int rank, std::unique_ptr<Collective> collective) {
      RigOptions options;
      options.train = &data_;
      options.collective = std::move(collective);
      Rig rig = MakeRig(SmallJob(), std::move(options));
      ASSERT_TRUE(rig.trainer->Restore(whole).ok());
      slices[static_cast<size_t>(rank)] = rig.trainer->TakeSnapshot();
    });
    Snapshot joined = slices.back();
    size_t bytes = 0;
    for (const SnapshotTensor& tensor : slices.back().tensors) bytes += tensor.bytes.size();
    for (size_t rank = 0; rank + 1 < slices.size(); ++rank) {
      for (const SnapshotTensor& tensor : slices[rank].tensors) {
        bytes += tensor.bytes.size();
        joined.tensors.push_back(tensor);
      }
    }
    size_t expected_bytes = 0;
    for (const SnapshotTensor& tensor : whole.tensors) expected_bytes += tensor.bytes.size();
    EXPECT_EQ(bytes, expected_bytes);
    Rig rig = Make(SmallJob());
    ASSERT_TRUE(rig.trainer->Restore(joined).ok());
    EXPECT_TRUE(SameBytes(rig.trainer->TakeSnapshot(), whole));
  }
}

TEST_F(SnapshotTest, RefusesWhatDoesNotFit) {
  const Snapshot good = Trained();
  Snapshot bad = good;
  std::erase_if(bad.tensors, [&](const auto& tensor) { return tensor.name == matrix_; });
  ExpectRefused(bad, matrix_, "missing");

  bad = good;
  std::swap(Find(bad, matrix_).shape[0], Find(bad, matrix_).shape[1]);
  ExpectRefused(bad, matrix_, "shape [24, 16] where the job has [16, 24]");

  bad = good;
  Find(bad, matrix_).dtype = "BF16";
  ExpectRefused(bad, matrix_, "type BF16");

  bad = good;
  Find(bad, matrix_).length -= 1;
  ExpectRefused(bad, matrix_, "wrong size");
  Find(bad, matrix_).bytes.resize(Find(bad, matrix_).bytes.size() - 4);
  ExpectRefused(bad, matrix_, "element 383 is missing");

  bad = good;
  Find(bad, matrix_).offset = -1;
  ExpectRefused(bad, matrix_, "outside the tensor");

  bad = good;
  bad.tensors.push_back(Find(bad, matrix_));
  ExpectRefused(bad, matrix_, "given twice");

  bad = good;
  Find(bad, matrix_).name = "transformer.h.7.mlp.c_proj.weight";
  ExpectRefused(bad, matrix_, "missing");
  bad.tensors.push_back(Find(const_cast<Snapshot&>(good), matrix_));
  ExpectRefused(bad, "transformer.h.7.mlp.c_proj.weight", "unknown to the job");

  bad = good;
  bad.state.rows_consumed = -1;
  ExpectRefused(bad, "position in the data", "negative");
}

TEST_F(SnapshotTest, RefusesAnotherKindOfMlp) {
  TrainingConfig config = SmallJob();
  const Snapshot relu_squared = Trained();
  config.model.mlp = MlpKind::kSwiGlu;
  Rig rig = Make(config);
  const Snapshot swiglu = rig.trainer->TakeSnapshot();
  const std::string gate = "transformer.h.0.mlp.c_gate.weight";
  for (const kernels::Status& status :
       {rig.trainer->Restore(relu_squared), rig.trainer->LoadParameters(relu_squared.tensors)}) {
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr(gate + ": missing"));
  }
  EXPECT_TRUE(SameBytes(rig.trainer->TakeSnapshot(), swiglu));
  ExpectRefused(swiglu, "transformer.h.0.mlp.c_fc.weight", "missing");
}

// What a file of parameters of `file` says, compared with SmallJob's model.
std::string DifferenceOf(const ModelConfig& file) {
  std::vector<SnapshotTensor> tensors;
  for (const ParameterSpec& spec : DescribeParameters(file)) {
    SnapshotTensor tensor;
    tensor.name = spec.name;
    tensor.shape = {spec.rows};
    if (spec.columns > 0) tensor.shape.push_back(spec.columns);
    tensors.push_back(std::move(tensor));
  }
  return DescribeModelDifference(SmallJob().model, tensors);
}

TEST(ModelDifferenceTest, NamesTheKeysOfTheJobFile) {
  const ModelConfig job = SmallJob().model;
  EXPECT_EQ(DifferenceOf(job), "");
  ModelConfig file = job;
  file.layers = 3;
  file.width = 32;
  file.vocab_size = 11;
  file.mlp_width = 64;
  EXPECT_EQ(DifferenceOf(file),
            "model.layers is 3 there and 2 in the job, model.width 32 and 16, model.vocab_size 11 "
            "and 13, model.mlp_width 64 and 24");
  file = job;
  file.mlp = MlpKind::kSwiGlu;
  EXPECT_EQ(DifferenceOf(file), "model.mlp is swiglu there and relu_squared in the job");
  file = job;
  file.gate = kernels::GateGranularity::kElement;
  EXPECT_EQ(DifferenceOf(file), "model.gate is element there and head in the job");
  file = job;
  file.heads = 2;
  EXPECT_EQ(DifferenceOf(file), "model.heads is 2 there and 4 in the job");
  file.attention = kernels::AttentionVariant::kSink;
  EXPECT_EQ(DifferenceOf(file),
            "model.heads is 2 there and 4 in the job, model.attention sink and gated");
  file.attention = kernels::AttentionVariant::kVanilla;
  EXPECT_EQ(DifferenceOf(file), "model.attention is vanilla there and gated in the job");
  // Of another family there is nothing to compare.
  SnapshotTensor foreign;
  foreign.name = "model.embed_tokens.weight";
  foreign.shape = {13, 16};
  EXPECT_EQ(DescribeModelDifference(job, {foreign}), "");
}

TEST_F(SnapshotTest, RefusesTheStateOfAnotherOptimizer) {
  TrainingConfig adam = SmallJob();
  adam.optimizer.kind = OptimizerKind::kAdamW;
  Rig rig = Make(adam);
  const kernels::Status status = rig.trainer->Restore(Trained());
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("optimizer/adam_m/transformer.h.0.attn.c_q.weight"));
}

TEST_F(SnapshotTest, LoadsParametersAndStartsTheOptimizerAnew) {
  const Snapshot trained = Trained();
  Rig rig = Make(SmallJob());
  ASSERT_TRUE(rig.trainer->LoadParameters(trained.tensors).ok());
  EXPECT_EQ(rig.trainer->steps_done(), 0);
  Snapshot loaded = rig.trainer->TakeSnapshot();
  Snapshot expected = trained;
  EXPECT_EQ(Find(loaded, matrix_).bytes, Find(expected, matrix_).bytes);
  const std::vector<std::byte>& momentum = Find(loaded, "optimizer/momentum/" + matrix_).bytes;
  EXPECT_TRUE(
      std::all_of(momentum.begin(), momentum.end(), [](std::byte b) { return b == std::byte{0}; }));
  SnapshotTensor foreign = Find(expected, matrix_);
  foreign.name = "model.norm.weight";
  expected.tensors.push_back(foreign);
  EXPECT_THAT(rig.trainer->LoadParameters(expected.tensors).message(),
              HasSubstr("model.norm.weight"));
}

}  // namespace
}  // namespace sinkforge::trainer
