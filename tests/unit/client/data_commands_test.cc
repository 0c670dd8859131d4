// logs, metrics, events, workers, sweep and checkpoints against a coordinator of the test's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "client/exit_code.h"
#include "proto/checkpoint_format/checkpoint_stream.h"
#include "proto/safetensors/safetensors.h"
#include "tests/unit/client/fake_services.h"
#include "tests/unit/client/run_client.h"

namespace sinkforge::client {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

v1::LogLine Line(int64_t sequence, const std::string& text) {
  v1::LogLine line;
  line.set_attempt(1);
  line.set_sequence(sequence);
  line.set_text(text);
  return line;
}

class DataCommandsTest : public testing::Test {
 protected:
  ClientRun Run(std::vector<std::string> arguments) {
    ClientWorld world;
    world.variables = {{"SINKFORGE_COORDINATOR", fake_.address()}, {"HOME", folder_.path()}};
    return RunClient(arguments, world);
  }

  TempFolder folder_;
  FakeServices fake_;
};

TEST_F(DataCommandsTest, LogsArePlainTextThatCannotSteerTheTerminal) {
  fake_.SetLogs({{Line(1, "step 1"), Line(2, "\033[2Jstep 2")}});
  EXPECT_EQ(Run({"logs", "d4-1"}).out, "step 1\n [2Jstep 2\n");
  EXPECT_EQ(Run({"logs", "d4-1", "--prefix"}).out, "[1.0] step 1\n[1.0]  [2Jstep 2\n");
}

TEST_F(DataCommandsTest, StructuredLogsAreReadableUnlessRaw) {
  const std::string warning =
      R"({"time":"2026-11-22T06:16:28.123Z","severity":"WARNING","component":"trainer",)"
      R"("message":"slow\u001b[2J","job":"d4-1","attempt":1,"rank":0,"worker":"w",)"
      R"("trace_id":"0af7","step":7,"file":"a.txt","error":"no such file","empty":""})";
  const std::string unfinished = R"({"time":"2026-11-22T06:16:28.123Z","severity")";
  fake_.SetLogs({{Line(1, warning), Line(2, unfinished), Line(3, R"({"step": 3})")}});
  const std::string rest = unfinished + "\n{\"step\": 3}\n";
  const std::string fields = "step=7 file=a.txt error=\"no such file\" empty=\"\"\n";
  EXPECT_EQ(Run({"logs", "d4-1"}).out,
            "2026-11-22 06:16:28.123Z WARNING slow [2J " + fields + rest);
  EXPECT_THAT(Run({"logs", "d4-1", "-t"}).out,
              testing::StartsWith("2026-11-22 06:16:28.123Z WARNING"));
  EXPECT_EQ(Run({"logs", "d4-1", "--raw"}).out, warning + "\n" + rest);
}

TEST_F(DataCommandsTest, AFollowedLogRepeatsNothingAfterABreak) {
  fake_.SetLogs(
      {{Line(1, "one"), Line(2, "two")}, {Line(1, "one"), Line(2, "two"), Line(3, "three")}});
  const ClientRun run = Run({"logs", "d4-1", "-f", "--tail", "2"});
  EXPECT_EQ(run.code, kExitOk);
  EXPECT_EQ(run.out, "one\ntwo\nthree\n");
  const auto reads = fake_.log_reads();
  ASSERT_EQ(reads.size(), 2u);
  EXPECT_EQ(reads[0].tail(), 2);
  EXPECT_EQ(reads[1].tail(), 0);  // the tail of then is not the tail of now
}

TEST_F(DataCommandsTest, MetricsTableHasNoMoreRowsThanRanges) {
  fake_.SetMetrics([](const v1::QueryMetricsRequest&) {
    v1::QueryMetricsResponse response;
    const auto add = [](v1::Series* series, int64_t step, double value, int64_t count) {
      v1::Point* point = series->add_points();
      point->set_step(step);
      point->set_value(value);
      point->set_count(count);
    };
    v1::Series* loss = response.add_series();
    loss->set_name("loss");
    add(loss, 5, 2, 5);
    add(loss, 10, 1, 5);
    v1::Series* validation = response.add_series();
    validation->set_name("validation_loss");
    add(validation, 3, 4, 1);
    add(validation, 4, 6, 1);
    add(validation, 10, 3, 1);
    return response;
  });
  EXPECT_EQ(Run({"metrics", "d4-1", "--points", "2"}).out,
            "step    loss  validation_loss\n"
            "   5  2.0000           6.0000\n"
            "  10  1.0000           3.0000\n");
}

TEST_F(DataCommandsTest, MetricsTableHasAColumnForEachSeries) {
  v1::QueryMetricsRequest asked;
  fake_.SetMetrics([&](const v1::QueryMetricsRequest& request) {
    asked = request;
    v1::QueryMetricsResponse response;
    v1::Series* loss = response.add_series();
    loss->set_name("loss");
    for (int step : {1, 2}) {
      v1::Point* point = loss->add_points();
      point->set_step(step);
      point->set_value(2.0 / step);
      point->set_count(1);
    }
    v1::Series* validation = response.add_series();
    validation->set_name("validation_loss");
    v1::Point* point = validation->add_points();
    point->set_step(2);
    point->set_value(0.1);
    return response;
  });
  const ClientRun table =
      Run({"metrics", "d4-1", "--series", "loss,validation_loss", "--from", "1"});
  EXPECT_EQ(table.out,
            "step    loss  validation_loss\n"
            "   1  2.0000\n"
            "   2  1.0000           0.1000\n");
  EXPECT_THAT(asked.series(), ElementsAre("loss", "validation_loss"));
  EXPECT_EQ(asked.first_step(), 1);
  EXPECT_EQ(asked.max_points(), 20);
  const ClientRun csv = Run({"metrics", "d4-1", "-o", "csv"});
  EXPECT_EQ(csv.out, "step,loss,validation_loss\n1,2,\n2,1,0.10000000000000001\n");
  EXPECT_EQ(Run({"metrics", "d4-1", "--points", "0"}).code, kExitUsage);
  EXPECT_EQ(Run({"metrics", "d4-1", "--from", "-1"}).code, kExitUsage);
  EXPECT_EQ(Run({"metrics", "d4-1", "--from", "10", "--to", "5"}).code, kExitUsage);
  EXPECT_EQ(Run({"list", "-o", "csv"}).code, kExitUsage);  // only metrics are a grid of numbers
}

TEST_F(DataCommandsTest, EventsFollowThePages) {
  std::vector<v1::Event> events(5);
  for (int i = 0; i < 5; ++i) {
    events[i].set_sequence(i + 1);
    events[i].set_kind(v1::EVENT_KIND_WARNING);
    events[i].set_message("event " + std::to_string(i + 1));
  }
  fake_.SetEvents(events);
  EXPECT_EQ(json::parse(Run({"events", "d4-1", "-o", "json"}).out)["events"].size(), 5u);
  EXPECT_THAT(Run({"events", "d4-1"}).out, HasSubstr("event 5"));
}

TEST_F(DataCommandsTest, WorkersShowSlotsAndWhatUsesThem) {
  v1::ListWorkersResponse workers;
  v1::Worker* worker = workers.add_workers();
  worker->set_worker("rack-1");
  worker->set_state(v1::WORKER_STATE_LIVE);
  worker->add_slots()->set_device(v1::DEVICE_CPU);
  worker->add_slots()->set_device(v1::DEVICE_CPU);
  worker->add_used()->set_job_id("d4-1");
  fake_.SetWorkers(workers);
  const ClientRun run = Run({"workers"});
  EXPECT_THAT(run.out, HasSubstr("1/2 cpu used"));
  EXPECT_THAT(run.out, HasSubstr("d4-1"));
  fake_.SetWorkers({});
  EXPECT_THAT(Run({"workers"}).err, HasSubstr("sinkforge-worker --coordinator " + fake_.address()));
}

// A finished job: its last ten steps have an imbalance of 0.5, what was before does not count.
v1::QueryMetricsResponse FinishedMetrics(const v1::QueryMetricsRequest& request) {
  v1::QueryMetricsResponse response;
  for (const std::string& name : request.series()) {
    v1::Series* series = response.add_series();
    series->set_name(name);
    if (name == "validation_bits_per_byte" && request.first_step() != 20) continue;
    v1::Point* point = series->add_points();
    point->set_step(20);
    point->set_value(request.first_step() == 11 ? 0.5 : name == "tokens_per_second" ? 5000 : 1.75);
    point->set_min(0.25);
    point->set_max(0.75);
    point->set_count(10);
  }
  return response;
}

TEST_F(DataCommandsTest, SweepSubmitsEveryPointAndShowsATable) {
  const std::string file = folder_.Write("job.yaml", kJobFile);
  const ClientRun run = Run({"sweep", file, "--grid", "head_balance.loss=none,cv", "--seeds", "1,2",
                             "--name", "balance"});
  EXPECT_EQ(run.code, kExitOk) << run.err;
  EXPECT_EQ(run.out, "tiny-none-s1-1\ntiny-none-s2-2\ntiny-cv-s1-3\ntiny-cv-s2-4\n");
  const auto submissions = fake_.submissions();
  ASSERT_EQ(submissions.size(), 4u);
  EXPECT_EQ(submissions[3].sweep(), "balance");
  EXPECT_EQ(submissions[3].spec().train().seed(), 2u);
  fake_.SetMetrics(FinishedMetrics);
  for (size_t i = 0; i < 4; ++i) {
    v1::Job job;
    *job.mutable_spec() = submissions[i].spec();
    job.set_job_id(job.spec().name() + "-" + std::to_string(i + 1));
    job.set_sweep("balance");
    job.set_state(v1::JOB_STATE_SUCCEEDED);
    job.mutable_progress()->set_step(20);
    job.mutable_progress()->set_validation_step(20);
    fake_.PutJob(job);
  }
  const ClientRun table = Run({"sweep", "show", "balance"});
  EXPECT_EQ(table.code, kExitOk) << table.err;
  EXPECT_THAT(table.out, HasSubstr("head_balance.loss"));  // `loss` alone is another column
  EXPECT_THAT(table.out, HasSubstr("seed"));
  const json result = json::parse(Run({"sweep", "show", "balance", "-o", "json"}).out);
  ASSERT_EQ(result["jobs"].size(), 4u);
  const json& first = result["jobs"][0];
  EXPECT_EQ(first["job_id"], "tiny-none-s1-1");
  EXPECT_EQ(first["settings"]["head_balance.loss"], "none");
  EXPECT_EQ(first["imbalance"], 0.5);
  EXPECT_EQ(first["importance_min"], 0.5);
  EXPECT_EQ(first["importance_max"], 0.5);
  EXPECT_EQ(first["validation_bits_per_byte"], 1.75);
  EXPECT_EQ(first["tokens_per_second"], 5000);
  // The name is taken now.
  const ClientRun again = Run({"sweep", file, "--seeds", "1,2", "--name", "balance"});
  EXPECT_EQ(again.code, kExitError);
  EXPECT_THAT(again.err, HasSubstr("choose another --name"));
}

TEST_F(DataCommandsTest, SweepRefusesTheSameJobTwice) {
  const std::string file = folder_.Write("job.yaml", kJobFile);
  const ClientRun run = Run({"sweep", file, "--grid", "head_balance.coefficient=0.02,2e-2"});
  EXPECT_EQ(run.code, kExitUsage);
  EXPECT_THAT(run.err, HasSubstr("is the same as"));
  EXPECT_TRUE(fake_.submissions().empty());
}

TEST_F(DataCommandsTest, SweepRunsAJobOnceThatDiffersOnlyInWhatItDoesNotUse) {
  const std::string file = folder_.Write("job.yaml", kJobFile);
  const ClientRun run = Run({"sweep", file, "--grid", "head_balance.coefficient=0.1,0.2", "--grid",
                             "head_balance.loss=none,cv"});
  EXPECT_EQ(run.code, kExitOk) << run.err;
  EXPECT_EQ(run.out, "tiny-0-1-none-1\ntiny-0-1-cv-2\ntiny-0-2-cv-3\n");
  EXPECT_THAT(run.err, HasSubstr("the job of 0.2-none would train the same as tiny-0-1-none"));
}

TEST_F(DataCommandsTest, SweepWatchReturnsTheFirstBadEnd) {
  for (const auto& [id, state] : std::vector<std::pair<std::string, v1::JobState>>{
           {"a-1", v1::JOB_STATE_SUCCEEDED}, {"b-2", v1::JOB_STATE_FAILED}}) {
    v1::Job job;
    job.set_job_id(id);
    job.set_sweep("x");
    job.set_state(state);
    fake_.PutJob(job);
  }
  const ClientRun table = Run({"sweep", "show", "x"});
  EXPECT_EQ(table.code, kExitOk);
  EXPECT_THAT(table.out, HasSubstr("failed"));
  EXPECT_EQ(Run({"sweep", "show", "none"}).code, kExitNotFound);
}

TEST_F(DataCommandsTest, ABadPointOfTheGridSubmitsNothing) {
  const std::string file = folder_.Write("job.yaml", kJobFile);
  const ClientRun run = Run({"sweep", file, "--grid", "model.heads=4,5"});
  EXPECT_EQ(run.code, kExitUsage);
  EXPECT_EQ(fake_.submissions().size(), 0u);
  EXPECT_EQ(Run({"sweep", file}).code, kExitUsage);
  EXPECT_EQ(Run({"sweep"}).code, kExitUsage);
}

TEST_F(DataCommandsTest, WorkersShowWhyOneIsDrained) {
  v1::ListWorkersResponse workers;
  v1::Worker* worker = workers.add_workers();
  worker->set_worker("rack-1");
  worker->set_state(v1::WORKER_STATE_DRAINED);
  worker->mutable_drain()->set_note("new disk");
  fake_.SetWorkers(workers);
  EXPECT_THAT(Run({"workers"}).out, HasSubstr("drained (new disk)"));
  workers.mutable_workers(0)->set_state(v1::WORKER_STATE_DRAINING);
  workers.mutable_workers(0)->set_only_copies(3);
  fake_.SetWorkers(workers);
  EXPECT_THAT(Run({"workers"}).out,
              HasSubstr("draining (new disk): 3 checkpoints are on no worker that stays"));
}

TEST_F(DataCommandsTest, DrainAndUndrainNameTheWorkers) {
  EXPECT_EQ(Run({"drain", "rack-1", "rack-2", "--note", "new disk"}).out,
            "rack-1 draining\nrack-2 draining\n");
  EXPECT_EQ(Run({"undrain", "rack-1"}).out, "rack-1 live\n");
  EXPECT_THAT(fake_.actions(),
              ElementsAre("drain rack-1 new disk", "drain rack-2 new disk", "undrain rack-1"));
  EXPECT_EQ(Run({"drain"}).code, kExitUsage);
}

TEST_F(DataCommandsTest, ForgetSaysWhatIsLostAndStopsAtARefusal) {
  EXPECT_EQ(Run({"forget", "rack-1"}).out, "rack-1 forgotten; checkpoints lost: 2\n");
  EXPECT_EQ(Run({"forget", "rack-2", "-o", "json"}).out,
            "{\"worker\":\"rack-2\",\"checkpoints_lost\":2}\n");
  const ClientRun refused = Run({"forget", "alive", "rack-3"});
  EXPECT_EQ(refused.code, kExitError);
  EXPECT_THAT(refused.err, HasSubstr("worker alive: it is there"));
  EXPECT_THAT(fake_.actions(), ElementsAre("forget rack-1", "forget rack-2"));
  EXPECT_EQ(Run({"forget"}).code, kExitUsage);
}

TEST_F(DataCommandsTest, NamespacesShowUseAndQuota) {
  v1::ListNamespacesResponse namespaces;
  v1::Namespace* team = namespaces.add_namespaces();
  team->set_namespace_("team");
  team->set_weight(2);
  team->set_cpu_slots(8);
  team->set_cpu_slots_used(3);
  team->set_jobs_queued(5);
  fake_.SetNamespaces(namespaces);
  EXPECT_THAT(Run({"namespaces"}).out, HasSubstr("3/8"));
  EXPECT_EQ(json::parse(Run({"namespaces", "-o", "json"}).out)["namespaces"][0]["cpu_slots"], 8);
}

TEST_F(DataCommandsTest, ANamespaceIsSetInPartsAndFreedByNone) {
  EXPECT_THAT(Run({"namespaces", "set", "team", "--cpu-slots", "8"}).out,
              HasSubstr("team: weight 1, at most 8 cpu slots"));
  EXPECT_EQ(Run({"namespaces", "set", "team", "--weight", "2", "--cpu-slots", "none"}).code,
            kExitOk);
  const auto updates = fake_.updates();
  ASSERT_EQ(updates.size(), 2u);
  EXPECT_FALSE(updates[0].has_weight());
  EXPECT_EQ(updates[0].cpu_slots(), 8);
  EXPECT_EQ(updates[1].cpu_slots(), -1);
  EXPECT_FALSE(updates[1].has_cuda_slots());
  EXPECT_EQ(Run({"namespaces", "set", "team"}).code, kExitUsage);
  EXPECT_EQ(Run({"namespaces", "set", "team", "--cpu-slots", "many"}).code, kExitUsage);
}

class ExportTest : public DataCommandsTest {
 protected:
  // Two ranks: the first holds all of "a", the optimizer's state and the first half of "b", the
  // second holds "b" from its second element on: one element is on both.
  ExportTest() {
    v1::ListWorkersResponse workers;
    v1::Worker* worker = workers.add_workers();
    worker->set_worker("local");
    worker->set_state(v1::WORKER_STATE_LIVE);
    worker->set_address(fake_.address());
    fake_.SetWorkers(workers);
    job_.set_job_id("d4-1");
    job_.mutable_spec()->set_name("d4");
    for (int64_t step : {10, 20}) {
      v1::Checkpoint* checkpoint = job_.add_checkpoints();
      checkpoint->set_step(step);
      for (int rank : {0, 1}) {
        v1::CheckpointPart* part = checkpoint->add_parts();
        part->set_rank(rank);
        part->set_worker("local");
      }
    }
    fake_.PutJob(job_);
    SetPart(0, {{"a", 3, 0, {1, 2, 3}}, {"optimizer/m/a", 3, 0, {7, 8, 9}}, {"b", 4, 0, {4, 5}}});
    SetPart(1, {{"b", 4, 1, {5, 6, 7}}});
  }

  struct Slice {
    std::string name;
    int64_t elements;  // of the tensor
    int64_t offset;
    std::vector<float> values;
  };

  void SetPart(int rank, const std::vector<Slice>& slices) {
    std::vector<v1::CheckpointData> data;
    checkpoint::PartWriter writer([&](const v1::CheckpointData& message) {
      data.push_back(message);
      return true;
    });
    for (const Slice& slice : slices) {
      v1::TensorSlice announced;
      announced.set_name(slice.name);
      announced.set_dtype("F32");
      announced.add_shape(slice.elements);
      announced.set_offset(slice.offset);
      announced.set_length(static_cast<int64_t>(slice.values.size()));
      ASSERT_TRUE(writer.AddSlice(announced, slice.values.data()));
    }
    ASSERT_TRUE(writer.Finish("{\"step\": 20}"));
    parts_[rank] = data;
    fake_.SetPart(rank, data);
  }

  std::vector<float> ReadTensor(const std::string& path, const std::string& name) {
    safetensors::Failure failure;
    const auto reader = safetensors::Reader::Open(path, &failure);
    if (reader == nullptr || reader->Find(name) == nullptr) return {};
    const safetensors::TensorInfo& info = *reader->Find(name);
    std::vector<float> values(static_cast<size_t>(info.bytes()) / sizeof(float));
    EXPECT_TRUE(reader->Read(info, 0, info.bytes(), values.data(), &failure));
    return values;
  }

  // The job succeeded with a checkpoint of step `last`.
  void EndAt(int64_t last) {
    job_.set_state(v1::JOB_STATE_SUCCEEDED);
    job_.mutable_spec()->mutable_train()->set_steps(last);
    fake_.PutJob(job_);
  }

  v1::Job job_;
  std::map<int, std::vector<v1::CheckpointData>> parts_;
};

TEST_F(ExportTest, PutsTheSlicesOfAllRanksTogether) {
  const std::string file = folder_.path() + "/model.safetensors";
  const ClientRun run = Run({"checkpoints", "export", "d4-1", file});
  ASSERT_EQ(run.code, kExitOk) << run.err;
  EXPECT_EQ(run.out, file + "\n");
  EXPECT_THAT(ReadTensor(file, "a"), ElementsAre(1, 2, 3));
  EXPECT_THAT(ReadTensor(file, "b"), ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(ReadTensor(file, "optimizer/m/a"), ElementsAre());
  safetensors::Failure failure;
  const auto reader = safetensors::Reader::Open(file, &failure);
  EXPECT_EQ(reader->metadata().at(safetensors::kSchemaVersionKey), "1");
  EXPECT_EQ(reader->metadata().at("sinkforge_step"), "20");
}

TEST_F(ExportTest, OlderWeightsThanTheLastAreNotTakenForThem) {
  const std::string file = folder_.path() + "/model.safetensors";
  EndAt(20);
  EXPECT_THAT(Run({"checkpoints", "export", "d4-1", file}).err, Not(HasSubstr("warning")));
  EndAt(24);
  const std::string warning =
      "warning: d4-1 ended at step 24, but its newest checkpoint is of step 20";
  const ClientRun run = Run({"checkpoints", "export", "d4-1", file, "--force"});
  EXPECT_EQ(run.code, kExitOk);
  EXPECT_THAT(run.err, HasSubstr(warning));
  // Who names a step has chosen.
  EXPECT_THAT(Run({"checkpoints", "export", "d4-1", file, "--force", "--step", "20"}).err,
              Not(HasSubstr("warning")));
  EXPECT_THAT(Run({"sample", "d4-1", "--prompt", "a", "--tokenizer", "bytes"}).err,
              HasSubstr(warning));
}

TEST_F(ExportTest, TheRowsThatAutoChoseGoWithTheWeights) {
  const std::string file = folder_.path() + "/model.safetensors";
  job_.mutable_spec()->mutable_train()->set_micro_batch(0);
  job_.mutable_progress()->set_micro_batch(12);
  fake_.PutJob(job_);
  ASSERT_EQ(Run({"checkpoints", "export", "d4-1", file}).code, kExitOk);
  safetensors::Failure failure;
  const auto reader = safetensors::Reader::Open(file, &failure);
  ASSERT_NE(reader, nullptr) << failure.message;
  EXPECT_EQ(reader->metadata().at("sinkforge_micro_batch"), "12");
  const ClientRun report = Run({"report", "d4-1", "--format", "json", "-o", "-"});
  const json job = json::parse(report.out)["jobs"][0];
  EXPECT_EQ(job["micro_batch"], 12);
  EXPECT_EQ(job["micro_batch_is_auto"], true);
  EXPECT_THAT(Run({"report", "d4-1", "--format", "csv", "-o", "-"}).out,
              HasSubstr("\nd4-1,micro_batch,0,12\n"));
}

TEST_F(ExportTest, TheOptimizerComesWhereAsked) {
  const std::string file = folder_.path() + "/all.safetensors";
  const ClientRun run = Run(
      {"checkpoints", "export", "d4-1", file, "--with-optimizer", "--step", "10", "-o", "json"});
  ASSERT_EQ(run.code, kExitOk) << run.err;
  EXPECT_THAT(ReadTensor(file, "optimizer/m/a"), ElementsAre(7, 8, 9));
  EXPECT_EQ(json::parse(run.out)["tensors"], 3);
  EXPECT_EQ(json::parse(run.out)["step"], 10);
}

TEST_F(ExportTest, ReplacesAFileOnlyWhereAsked) {
  const std::string file = folder_.Write("model.safetensors", "precious");
  EXPECT_THAT(Run({"checkpoints", "export", "d4-1", file}).err, HasSubstr("--force"));
  EXPECT_EQ(Run({"checkpoints", "export", "d4-1", file, "--force"}).code, kExitOk);
  // A rename would make a plain file of a link or a device.
  const std::string link = folder_.path() + "/link";
  ASSERT_EQ(symlink(file.c_str(), link.c_str()), 0);
  EXPECT_THAT(Run({"checkpoints", "export", "d4-1", link, "--force"}).err,
              HasSubstr("no regular file"));
  EXPECT_THAT(ReadTensor(file, "a"), ElementsAre(1, 2, 3));
}

TEST_F(ExportTest, VerifyNamesTheCopyThatIsCorruptAndItsChunk) {
  ClientRun run = Run({"checkpoints", "verify", "d4-1"});
  EXPECT_EQ(run.code, kExitOk) << run.err;
  EXPECT_THAT(run.err, HasSubstr("4 of 4 copies are good"));
  auto broken = parts_[1];
  for (v1::CheckpointData& message : broken) {
    if (message.has_chunk()) (*message.mutable_chunk()->mutable_data())[0] ^= 1;
  }
  fake_.SetPart(1, broken);
  run = Run({"checkpoints", "verify", "d4-1", "--step", "20", "-o", "json"});
  EXPECT_EQ(run.code, kExitError);
  const json found = json::parse(run.out);
  ASSERT_EQ(found.size(), 2);
  EXPECT_EQ(found[0]["ok"], true);
  EXPECT_EQ(found[1]["ok"], false);
  EXPECT_EQ(found[1]["worker"], "local");
  EXPECT_THAT(found[1]["error"].get<std::string>(), HasSubstr("chunk 0"));
  EXPECT_EQ(Run({"checkpoints", "verify", "d4-1", "--step", "7"}).code, kExitNotFound);
}

// A worker that was just killed is in the list until its lease ends.
TEST_F(ExportTest, VerifyTellsWhatItCouldNotReadFromWhatIsCorrupt) {
  v1::ListWorkersResponse workers;
  v1::Worker* worker = workers.add_workers();
  worker->set_worker("local");
  worker->set_state(v1::WORKER_STATE_LIVE);
  worker->set_address("127.0.0.1:1");
  fake_.SetWorkers(workers);
  const ClientRun run = Run({"checkpoints", "verify", "d4-1", "--step", "20"});
  EXPECT_EQ(run.code, kExitError);
  EXPECT_THAT(run.out, HasSubstr("the worker does not answer (see `sinkforge workers`)"));
  EXPECT_THAT(run.err, HasSubstr("0 of 2 copies are good"));
  EXPECT_THAT(run.err, HasSubstr("2 could not be read"));
  EXPECT_THAT(run.err, testing::Not(HasSubstr("corrupt")));
}

// One that hangs costs its time-out: for each of its copies, that would be minutes.
TEST_F(ExportTest, VerifyAsksAWorkerThatDoesNotAnswerOnlyOnce) {
  fake_.RefuseParts(absl::UnavailableError("keepalive watchdog timeout"));
  const ClientRun run = Run({"checkpoints", "verify", "d4-1"});
  EXPECT_EQ(run.code, kExitError);
  EXPECT_THAT(run.err, HasSubstr("4 could not be read"));
  EXPECT_THAT(fake_.actions(), ElementsAre("read rank 0"));
  // What a worker says of a copy it says of that one alone.
  fake_.RefuseParts(absl::DataLossError("chunk 3 is corrupt"));
  EXPECT_THAT(Run({"checkpoints", "verify", "d4-1"}).err, HasSubstr("0 of 4 copies are good"));
  EXPECT_EQ(fake_.actions().size(), 5u);
}

TEST_F(ExportTest, ACorruptChunkIsNamedAndNothingIsWritten) {
  auto broken = parts_[0];
  for (v1::CheckpointData& message : broken) {
    if (message.has_chunk() && message.chunk().slice() == 2) {
      (*message.mutable_chunk()->mutable_data())[0] ^= 1;
    }
  }
  fake_.SetPart(0, broken);
  const std::string file = folder_.path() + "/model.safetensors";
  const ClientRun run = Run({"checkpoints", "export", "d4-1", file});
  EXPECT_EQ(run.code, kExitError);
  EXPECT_THAT(run.err, HasSubstr("rank 0 at worker local"));
  EXPECT_THAT(run.err, HasSubstr("b"));
  EXPECT_NE(access(file.c_str(), F_OK), 0);
}

TEST_F(ExportTest, AStreamThatEndsEarlyIsAnError) {
  auto cut = parts_[1];
  cut.pop_back();
  fake_.SetPart(1, cut);
  EXPECT_EQ(Run({"checkpoints", "export", "d4-1", folder_.path() + "/m.safetensors"}).code,
            kExitError);
}

TEST_F(ExportTest, AHoleInATensorIsAnError) {
  SetPart(1, {{"b", 4, 3, {7}}});
  const ClientRun run = Run({"checkpoints", "export", "d4-1", folder_.path() + "/m.safetensors"});
  EXPECT_EQ(run.code, kExitError);
  EXPECT_THAT(run.err, HasSubstr("tensor b"));
  EXPECT_NE(access((folder_.path() + "/m.safetensors").c_str(), F_OK), 0);
}

TEST_F(ExportTest, MissingThingsAreNamed) {
  const std::string file = folder_.path() + "/m.safetensors";
  const ClientRun step = Run({"checkpoints", "export", "d4-1", file, "--step", "11"});
  EXPECT_EQ(step.code, kExitNotFound);
  EXPECT_THAT(step.err, HasSubstr("steps 10, 20"));
  job_.mutable_checkpoints()->RemoveLast();
  fake_.PutJob(job_);
  EXPECT_THAT(Run({"checkpoints", "export", "d4-1", file, "--step", "11"}).err,
              HasSubstr("it has that of step 10"));
  const ClientRun folder = Run({"checkpoints", "export", "d4-1", "/nonexistent/m.safetensors"});
  EXPECT_EQ(folder.code, kExitError);
  EXPECT_THAT(folder.err, HasSubstr("/nonexistent/m.safetensors: cannot be written"));
  fake_.SetWorkers({});
  const ClientRun away = Run({"checkpoints", "export", "d4-1", file});
  EXPECT_EQ(away.code, kExitError);
  EXPECT_THAT(away.err, HasSubstr("worker local"));
}

TEST_F(ExportTest, CheckpointsAreListedAndDeleted) {
  EXPECT_THAT(Run({"checkpoints", "list", "d4-1"}).out, HasSubstr("local"));
  EXPECT_EQ(
      json::parse(Run({"checkpoints", "list", "d4-1", "-o", "json"}).out)["checkpoints"].size(),
      2u);
  EXPECT_EQ(Run({"checkpoints", "delete", "d4-1", "10"}).code, kExitOk);
  EXPECT_THAT(fake_.actions(), ElementsAre("delete-checkpoint-10 d4-1"));
  EXPECT_EQ(Run({"checkpoints", "delete", "d4-1", "ten"}).code, kExitUsage);
}

TEST_F(ExportTest, WhoDeletesTheFinalWeightsIsTold) {
  EndAt(20);
  EXPECT_THAT(Run({"checkpoints", "delete", "d4-1", "10"}).err, testing::IsEmpty());
  job_.mutable_checkpoints(1)->set_deleting(true);
  fake_.PutJob(job_);
  const ClientRun run = Run({"checkpoints", "delete", "d4-1", "20"});
  EXPECT_EQ(run.code, kExitOk);
  EXPECT_THAT(run.err, HasSubstr("step 20 was the last of d4-1: these were its final weights; the "
                                 "newest that are left are of step 10"));
}

}  // namespace
}  // namespace sinkforge::client
