// submit, list, show, watch, wait and the actions against a coordinator of the test's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "client/coordinator.h"
#include "client/exit_code.h"
#include "client/local_start.h"
#include "tests/unit/client/fake_services.h"
#include "tests/unit/client/run_client.h"

namespace sinkforge::client {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

v1::Job MakeJob(const std::string& id, v1::JobState state, int64_t step = 0) {
  v1::Job job;
  job.set_job_id(id);
  job.set_state(state);
  job.mutable_spec()->mutable_train()->set_steps(20);
  job.mutable_progress()->set_step(step);
  job.mutable_progress()->set_steps_total(20);
  job.mutable_progress()->set_loss(2.5);
  return job;
}

v1::WatchJobResponse Message(const v1::Job& job, std::vector<int64_t> steps = {}) {
  v1::WatchJobResponse message;
  *message.mutable_job() = job;
  for (int64_t step : steps) message.add_steps()->set_step(step);
  return message;
}

class JobCommandsTest : public testing::Test {
 protected:
  ClientRun Run(std::vector<std::string> arguments, ClientWorld world = {}) {
    world.variables.emplace("SINKFORGE_COORDINATOR", fake_.address());
    world.variables.emplace("HOME", folder_.path());
    return RunClient(arguments, world);
  }

  TempFolder folder_;
  FakeServices fake_;
};

TEST_F(JobCommandsTest, SubmitPrintsOnlyTheIdOnStdout) {
  const ClientRun run = Run({"submit", folder_.Write("job.yaml", kJobFile)});
  EXPECT_EQ(run.code, kExitOk) << run.err;
  EXPECT_EQ(run.out, "tiny-1\n");
  EXPECT_THAT(run.err, HasSubstr("sinkforge watch tiny-1"));
  ASSERT_EQ(fake_.submissions().size(), 1u);
  EXPECT_EQ(fake_.submissions()[0].spec().optimizer().kind(), v1::OPTIMIZER_KIND_MUON);
}

TEST_F(JobCommandsTest, SubmitIsTriedAgainWithTheSameRequestId) {
  fake_.FailSubmissions({absl::UnavailableError("restarting"), absl::UnavailableError("again")});
  const ClientRun run = Run({"submit", folder_.Write("job.yaml", kJobFile)});
  EXPECT_EQ(run.code, kExitOk) << run.err;
  EXPECT_THAT(run.err, HasSubstr("trying again"));
  const auto submissions = fake_.submissions();
  ASSERT_EQ(submissions.size(), 3u);
  EXPECT_FALSE(submissions[0].request_id().empty());
  EXPECT_EQ(submissions[0].request_id(), submissions[2].request_id());
}

TEST_F(JobCommandsTest, AFullDiskOfTheCoordinatorIsNotCalledUnreachable) {
  fake_.FailSubmissions(std::vector<absl::Status>(
      100, base::WithReason(absl::UnavailableError("disk full"), "STORE_UNAVAILABLE")));
  const ClientRun run = Run({"submit", folder_.Write("job.yaml", kJobFile), "--retry-for", "0.3"});
  EXPECT_EQ(run.code, kExitError);
  EXPECT_THAT(run.err, HasSubstr("disk full"));
}

TEST_F(JobCommandsTest, TwoSubmissionsAreTwoRequests) {
  const std::string file = folder_.Write("job.yaml", kJobFile);
  Run({"submit", file});
  Run({"submit", file, "--set", "name=other", "--set", "train.seed=7"});
  const auto submissions = fake_.submissions();
  ASSERT_EQ(submissions.size(), 2u);
  EXPECT_NE(submissions[0].request_id(), submissions[1].request_id());
  EXPECT_EQ(submissions[1].spec().name(), "other");
  EXPECT_EQ(submissions[1].spec().train().seed(), 7u);
}

TEST_F(JobCommandsTest, DryRunPrintsAJobFileAndSubmitsNothing) {
  const std::string file = folder_.Write("job.yaml", kJobFile);
  const ClientRun run = Run({"submit", file, "--dry-run"});
  EXPECT_EQ(run.code, kExitOk) << run.err;
  EXPECT_THAT(run.out, HasSubstr("# steps: 20 of 128 tokens, 1 micro-batch of 4 rows"));
  EXPECT_THAT(fake_.submissions(), IsEmpty());
  // What it prints is a job file that means the same.
  const ClientRun again = Run({"submit", folder_.Write("resolved.yaml", run.out), "--dry-run"});
  EXPECT_EQ(again.out, run.out);
  const json as_json = json::parse(Run({"submit", file, "--dry-run", "-o", "json"}).out);
  EXPECT_EQ(as_json["tokens"], 20 * 128);
  EXPECT_GT(as_json["parameters"], 0);
}

TEST_F(JobCommandsTest, AnAutomaticMicroBatchIsShownAsSuchAndThenByItsRows) {
  const std::string file = folder_.Write("job.yaml", kJobFile);
  const std::vector<std::string> dry = {"submit", file, "--dry-run", "--set",
                                        "train.micro_batch=auto"};
  const ClientRun run = Run(dry);
  EXPECT_EQ(run.code, kExitOk) << run.err;
  EXPECT_THAT(run.out, HasSubstr("20 of 128 tokens, in the largest micro-batches that fit"));
  EXPECT_THAT(run.out, HasSubstr("  micro_batch: auto\n"));
  std::vector<std::string> as_json = dry;
  as_json.insert(as_json.end(), {"-o", "json"});
  EXPECT_FALSE(json::parse(Run(as_json).out).contains("micro_steps"));

  v1::Job job = MakeJob("auto-1", v1::JOB_STATE_RUNNING);
  fake_.PutJob(job);
  EXPECT_THAT(Run({"show", "auto-1"}).out, Not(HasSubstr("micro-batch")));
  job.mutable_spec()->mutable_train()->set_micro_batch(0);
  job.set_state(v1::JOB_STATE_QUEUED);
  fake_.PutJob(job);
  EXPECT_THAT(Run({"show", "auto-1"}).out, HasSubstr("micro-batch  auto: chosen when the job"));
  job.set_state(v1::JOB_STATE_RUNNING);
  fake_.PutJob(job);
  EXPECT_THAT(Run({"show", "auto-1"}).out, HasSubstr("micro-batch  auto: told with the first"));
  job.set_state(v1::JOB_STATE_CANCELLED);
  fake_.PutJob(job);
  EXPECT_THAT(Run({"show", "auto-1"}).out, HasSubstr("micro-batch  auto: never chosen"));
  job.mutable_progress()->set_micro_batch(32);
  fake_.PutJob(job);
  EXPECT_THAT(Run({"show", "auto-1"}).out, HasSubstr("micro-batch  auto: 32 rows"));
}

TEST_F(JobCommandsTest, EveryProblemOfAJobFileIsALineWithItsPlace) {
  const std::string file = folder_.Write("job.yaml",
                                         "name: tiny\n"
                                         "model:\n"
                                         "  widht: 32\n"
                                         "  heads: many\n");
  const ClientRun run = Run({"submit", file});
  EXPECT_EQ(run.code, kExitUsage);
  EXPECT_THAT(run.err, HasSubstr(file + ":3:3: model.widht: unknown key; did you mean `width`?"));
  EXPECT_THAT(run.err, HasSubstr(file + ":4:"));
  EXPECT_THAT(run.out, IsEmpty());
  EXPECT_THAT(fake_.submissions(), IsEmpty());
}

TEST_F(JobCommandsTest, AViolationNamesTheOverrideThatMadeIt) {
  const ClientRun run =
      Run({"submit", folder_.Write("job.yaml", kJobFile), "--set", "model.heads=5"});
  EXPECT_EQ(run.code, kExitUsage);
  EXPECT_THAT(run.err, HasSubstr("--set model.heads=5"));
}

TEST_F(JobCommandsTest, TheCoordinatorsViolationsNameTheFilesLine) {
  const std::string file = folder_.Write("job.yaml", kJobFile);
  fake_.FailSubmissions({base::WithViolations(absl::InvalidArgumentError("the job is not valid"),
                                              {{"train.steps", "at most 10 here"}})});
  const ClientRun run = Run({"submit", file});
  EXPECT_EQ(run.code, kExitUsage);
  EXPECT_THAT(run.err, HasSubstr(file + ":5:"));
  EXPECT_THAT(run.err, HasSubstr("train.steps: at most 10 here"));
}

TEST_F(JobCommandsTest, AMissingJobFileIsNotFound) {
  const ClientRun run = Run({"submit", folder_.path() + "/none.yaml"});
  EXPECT_EQ(run.code, kExitNotFound);
  EXPECT_THAT(run.err, HasSubstr("none.yaml"));
}

TEST_F(JobCommandsTest, ListFollowsThePagesUpToItsLimit) {
  for (int i = 1; i <= 5; ++i)
    fake_.PutJob(MakeJob("j-" + std::to_string(i), v1::JOB_STATE_RUNNING));
  const json all = json::parse(Run({"list", "-o", "json"}).out);
  EXPECT_EQ(all["jobs"].size(), 5u);
  EXPECT_EQ(all["jobs"][0]["job_id"], "j-5");
  EXPECT_EQ(all.size(), 1u) << "its pages are this program's own affair";
  const ClientRun cut = Run({"list", "--limit", "2", "-o", "json"});
  EXPECT_EQ(json::parse(cut.out).size(), 1u);
  EXPECT_THAT(cut.err, HasSubstr("only the newest 2; more with --limit N"));
  const ClientRun some = Run({"list", "--limit", "2"});
  EXPECT_THAT(some.out, HasSubstr("j-4"));
  EXPECT_THAT(some.out, Not(HasSubstr("j-3")));
  EXPECT_THAT(some.err, HasSubstr("--limit"));
  EXPECT_EQ(Run({"list", "--limit", "0"}).code, kExitUsage);
}

TEST_F(JobCommandsTest, ListChecksItsStates) {
  fake_.PutJob(MakeJob("a-1", v1::JOB_STATE_RUNNING));
  fake_.PutJob(MakeJob("b-2", v1::JOB_STATE_FAILED));
  const ClientRun run = Run({"list", "--state", "failed"});
  EXPECT_THAT(run.out, HasSubstr("b-2"));
  EXPECT_THAT(run.out, Not(HasSubstr("a-1")));
  EXPECT_EQ(Run({"list", "--state", "broken"}).code, kExitUsage);
}

TEST_F(JobCommandsTest, ShowSaysWhoIsAheadAndWhatWouldHelp) {
  v1::Job job = MakeJob("d4-9", v1::JOB_STATE_QUEUED);
  job.mutable_spec()->mutable_resources()->set_ranks(4);
  job.mutable_spec()->mutable_resources()->set_min_ranks(2);
  job.mutable_wait()->set_ahead_count(7);
  job.mutable_wait()->add_ahead("a-1");
  job.mutable_wait()->add_ahead("b-2");
  job.mutable_wait()->add_would_run("another worker with 2 cpu slots");
  job.set_sweep("grid");
  job.set_sweep_running_max(3);
  fake_.PutJob(job);
  const ClientRun run = Run({"show", "d4-9"});
  EXPECT_THAT(run.out, HasSubstr("a-1, b-2 and 5 more"));
  EXPECT_THAT(run.out, HasSubstr("would run by another worker with 2 cpu slots"));
  EXPECT_THAT(run.out, HasSubstr("2 to 4 x"));
  EXPECT_THAT(run.out, HasSubstr("grid, at most 3 at a time"));
}

TEST_F(JobCommandsTest, ShowSaysWhyAJobWaitsAndWhatIsThere) {
  v1::Job job = MakeJob("d4-1", v1::JOB_STATE_QUEUED, 12);
  job.set_reason(v1::REASON_NOT_ENOUGH_SLOTS_EXIST);
  job.set_message("needs 4 cpu slots, the workers have 2");
  job.mutable_retries()->set_crash(2);
  v1::Checkpoint* checkpoint = job.add_checkpoints();
  checkpoint->set_step(10);
  checkpoint->set_validation_loss(1.8125);
  checkpoint->add_parts()->set_worker("local");
  fake_.PutJob(job);
  const ClientRun run = Run({"show", "d4-1"});
  EXPECT_EQ(run.code, kExitOk);
  EXPECT_THAT(run.out, HasSubstr("queued (not enough slots exist)"));
  EXPECT_THAT(run.out, HasSubstr("needs 4 cpu slots"));
  EXPECT_THAT(run.out, HasSubstr("12 of 20 steps (60.0%)"));
  EXPECT_THAT(run.out, HasSubstr("2 crashes"));
  EXPECT_THAT(run.out, HasSubstr("HELD BY"));
  EXPECT_THAT(run.out, HasSubstr("1.8125"));
  EXPECT_EQ(json::parse(Run({"show", "d4-1", "-o", "json"}).out)["state"], "JOB_STATE_QUEUED");
}

TEST_F(JobCommandsTest, ShowSaysThatTheNewestCheckpointWasNotKept) {
  v1::Job job = MakeJob("d4-1", v1::JOB_STATE_RUNNING, 12);
  job.add_rank_notes("restored the checkpoint of step 5");
  job.add_rank_notes(
      "a checkpoint could not be made durable, training goes on: checkpoint of step 8: /data: 3 "
      "bytes free");
  job.add_rank_notes("not_bit_exact: another processor");
  fake_.PutJob(job);
  const std::string none = Run({"show", "d4-1"}).out;
  EXPECT_THAT(none, HasSubstr("not kept     checkpoint of step 8: /data: 3 bytes free"));
  EXPECT_THAT(none, HasSubstr("there is no checkpoint to go back to"));
  job.add_checkpoints()->set_step(5);
  fake_.PutJob(job);
  EXPECT_THAT(Run({"show", "d4-1"}).out, HasSubstr("the last one that was kept is of step 5"));
  job.add_checkpoints()->set_step(10);
  fake_.PutJob(job);
  EXPECT_THAT(Run({"show", "d4-1"}).out, Not(HasSubstr("not kept")));
}

TEST_F(JobCommandsTest, ShowSaysThatTheFinalWeightsOfASuccessAreGone) {
  v1::Job job = MakeJob("d4-1", v1::JOB_STATE_SUCCEEDED, 20);
  job.add_checkpoints()->set_step(16);
  v1::Checkpoint* final = job.add_checkpoints();
  final->set_step(20);
  fake_.PutJob(job);
  EXPECT_THAT(Run({"show", "d4-1"}).out, Not(HasSubstr("lost")));
  final->set_deleting(true);
  fake_.PutJob(job);
  const ClientRun shown = Run({"show", "d4-1"});
  EXPECT_THAT(shown.out, HasSubstr("lost         the final checkpoint, of step 20, is no longer "
                                   "there; the newest that is left is of step 16"));
  EXPECT_THAT(shown.err, HasSubstr("sinkforge show d4-1 --job-file"));
  job.clear_checkpoints();
  fake_.PutJob(job);
  EXPECT_THAT(Run({"show", "d4-1"}).out, HasSubstr("no checkpoint is left"));
  // Whoever cancels a job need not hear that its last step was not kept.
  job.set_state(v1::JOB_STATE_CANCELLED);
  fake_.PutJob(job);
  EXPECT_THAT(Run({"show", "d4-1"}).out, Not(HasSubstr("final checkpoint")));
}

TEST(SmallDiskWarningTest, NamesFiguresAndRemedy) {
  const std::string warning = SmallDiskWarning("/state", int64_t{100} << 20);
  EXPECT_THAT(warning, HasSubstr("/state has 100"));
  EXPECT_THAT(warning, HasSubstr("less than 512"));
  EXPECT_THAT(warning, HasSubstr("--state-dir"));
  EXPECT_EQ(SmallDiskWarning("/state", kLocalDiskReserveBytes), "");
}

TEST_F(JobCommandsTest, ShowSaysWhereTheTimeWent) {
  v1::Job job = MakeJob("d4-1", v1::JOB_STATE_SUCCEEDED, 20);
  job.mutable_create_time()->set_seconds(1'000'000);
  job.mutable_time()->set_train(90);
  job.mutable_time()->set_queue(4);
  job.mutable_time()->set_replay(5.5);
  job.mutable_time()->set_checkpoint_stall(0.5);
  fake_.PutJob(job);
  const ClientRun run = Run({"show", "d4-1"});
  EXPECT_THAT(run.out, HasSubstr("90.0% goodput"));
  EXPECT_THAT(run.out, HasSubstr("queue 4 s, replay 5.5 s, checkpoint stall 0.5 s"));
}

TEST_F(JobCommandsTest, ShowSaysWhatHeldARunningJobUp) {
  v1::Job job = MakeJob("d4-1", v1::JOB_STATE_RUNNING, 20);
  const auto now = std::chrono::system_clock::now();
  *job.mutable_create_time() = base::ToProto(now - std::chrono::hours(1));
  *job.mutable_state_time() = job.create_time();
  job.mutable_progress()->set_stall_seconds(1800);
  fake_.PutJob(job);
  const ClientRun run = Run({"show", "d4-1"});
  EXPECT_THAT(run.out, HasSubstr("50.0% goodput"));
  EXPECT_THAT(run.out, HasSubstr("held up 30m00s"));
}

TEST_F(JobCommandsTest, ShowDoesNotCountTheLastCheckpointsCopyAsTraining) {
  v1::Job job = MakeJob("d4-1", v1::JOB_STATE_RUNNING, 20);
  const auto now = std::chrono::system_clock::now();
  *job.mutable_create_time() = base::ToProto(now - std::chrono::hours(2));
  *job.mutable_state_time() = job.create_time();
  *job.mutable_copy_start_time() = base::ToProto(now - std::chrono::hours(1));
  job.set_reason(v1::REASON_COPYING_LAST_CHECKPOINT);
  fake_.PutJob(job);
  const ClientRun run = Run({"show", "d4-1"});
  EXPECT_THAT(run.out, HasSubstr("running (copying last checkpoint)"));
  EXPECT_THAT(run.out, HasSubstr("50.0% goodput"));
  EXPECT_THAT(run.out, HasSubstr("checkpoint stall 1h00m"));
}

TEST_F(JobCommandsTest, ShowCountsThePauseUnderWay) {
  v1::Job job = MakeJob("d4-1", v1::JOB_STATE_PAUSED, 20);
  const auto now = std::chrono::system_clock::now();
  *job.mutable_create_time() = base::ToProto(now - std::chrono::hours(2));
  *job.mutable_state_time() = base::ToProto(now - std::chrono::hours(1));
  job.mutable_time()->set_train(3600);
  for (const v1::JobState state : {v1::JOB_STATE_PAUSED, v1::JOB_STATE_FAILED}) {
    job.set_state(state);
    fake_.PutJob(job);
    const ClientRun run = Run({"show", "d4-1"});
    EXPECT_THAT(run.out, HasSubstr("50.0% goodput"));
    EXPECT_THAT(run.out, HasSubstr("pause 1h00m"));
  }
  job.set_state(v1::JOB_STATE_CANCELLED);
  fake_.PutJob(job);
  EXPECT_THAT(Run({"show", "d4-1"}).out, HasSubstr("100.0% goodput"));
}

TEST_F(JobCommandsTest, ShowSaysWhatEndedFormerAttempts) {
  v1::Job job = MakeJob("d4-1", v1::JOB_STATE_RUNNING, 20);
  job.set_attempt(2);
  job.mutable_retries()->set_infrastructure(1);
  fake_.PutJob(job);
  EXPECT_THAT(Run({"show", "d4-1"}).out, HasSubstr("2 (after 1 worker that was lost or stopped)"));
  job.set_attempt(6);
  job.mutable_retries()->set_infrastructure(2);
  job.mutable_retries()->set_crash(1);
  job.mutable_retries()->set_no_progress(2);
  fake_.PutJob(job);
  EXPECT_THAT(Run({"show", "d4-1"}).out,
              HasSubstr("6 (after 2 workers that were lost or stopped, 1 crash, 2 hangs)"));
}

TEST_F(JobCommandsTest, AnUnknownJobIsNotFoundEverywhere) {
  for (const std::string command :
       {"show", "watch", "wait", "cancel", "pause", "resume", "delete"}) {
    const ClientRun run = Run({command, "none-1"});
    EXPECT_EQ(run.code, kExitNotFound) << command;
    EXPECT_THAT(run.err, HasSubstr("none-1")) << command;
  }
}

TEST_F(JobCommandsTest, WatchEndsWithTheCodeOfTheJobsEnd) {
  const std::vector<std::pair<v1::JobState, int>> ends = {
      {v1::JOB_STATE_SUCCEEDED, kExitOk},
      {v1::JOB_STATE_FAILED, kExitJobFailed},
      {v1::JOB_STATE_CANCELLED, kExitJobCancelled},
      {v1::JOB_STATE_PAUSED, kExitJobPaused}};
  for (const auto& [state, code] : ends) {
    fake_.SetWatch("d4-1", {{Message(MakeJob("d4-1", v1::JOB_STATE_RUNNING, 3)),
                             Message(MakeJob("d4-1", state, 20))}});
    EXPECT_EQ(Run({"watch", "d4-1"}).code, code);
    EXPECT_EQ(Run({"wait", "d4-1"}).code, code);
  }
}

TEST_F(JobCommandsTest, WatchGoesOnAfterTheStreamBroke) {
  v1::Job running = MakeJob("d4-1", v1::JOB_STATE_RUNNING, 3);
  fake_.SetWatch("d4-1", {{Message(running, {1, 2, 3})},
                          {Message(MakeJob("d4-1", v1::JOB_STATE_SUCCEEDED, 20), {4, 5})}});
  const ClientRun run = Run({"watch", "d4-1", "-o", "json", "--after-step", "0"});
  EXPECT_EQ(run.code, kExitOk);
  EXPECT_THAT(run.err, HasSubstr("jobs go on"));
  const auto watches = fake_.watches();
  ASSERT_EQ(watches.size(), 2u);
  EXPECT_EQ(watches[0].after_step(), 0);
  EXPECT_EQ(watches[1].after_step(), 3);  // what it has seen is not asked for again
  // Each line of the output is one document.
  const size_t end = run.out.find('\n');
  EXPECT_EQ(json::parse(run.out.substr(0, end))["steps"].size(), 3u);
}

TEST_F(JobCommandsTest, WatchOnATerminalRedrawsAndOnAPipeDoesNot) {
  const auto stream = std::vector<std::vector<v1::WatchJobResponse>>{
      {Message(MakeJob("d4-1", v1::JOB_STATE_RUNNING, 3)),
       Message(MakeJob("d4-1", v1::JOB_STATE_SUCCEEDED, 20))}};
  fake_.SetWatch("d4-1", stream);
  const ClientRun screen = Run({"watch", "d4-1"}, {.terminal = true});
  EXPECT_THAT(screen.out, HasSubstr("\033[4A"));  // progress, loss, imbalance, numbers
  EXPECT_THAT(Run({"watch", "d4-1"}).out, Not(HasSubstr("\033")));
  const ClientRun plain =
      Run({"watch", "d4-1"}, {.variables = {{"NO_COLOR", "1"}}, .terminal = true});
  EXPECT_THAT(plain.out, Not(HasSubstr("\033[3")));  // redrawn, but without colours
}

TEST_F(JobCommandsTest, AFailureNamesReasonAndCheckpointAndNextStep) {
  v1::Job job = MakeJob("d4-1", v1::JOB_STATE_FAILED, 12);
  job.set_reason(v1::REASON_NON_FINITE_LOSS);
  job.set_message("loss is NaN at step 13");
  job.add_checkpoints()->set_step(10);
  v1::WatchJobResponse end = Message(job);
  v1::Event* event = end.add_events();
  event->set_kind(v1::EVENT_KIND_ATTEMPT_ENDED);
  event->set_message("loss is NaN");  // the job's own message goes on
  fake_.SetWatch("d4-1", {{end}});
  const ClientRun run = Run({"watch", "d4-1"});
  EXPECT_THAT(run.out, Not(HasSubstr("NaN"))) << "once, at the end, is enough";
  EXPECT_THAT(run.err, HasSubstr("non finite loss: loss is NaN at step 13"));
  EXPECT_THAT(run.err, HasSubstr("step 10"));
  EXPECT_THAT(run.err, HasSubstr("sinkforge logs d4-1"));
}

TEST_F(JobCommandsTest, SubmitWatchFollowsTheSubmittedJob) {
  fake_.SetWatch("tiny-1", {{Message(MakeJob("tiny-1", v1::JOB_STATE_CANCELLED, 3))}});
  const ClientRun run = Run({"submit", folder_.Write("job.yaml", kJobFile), "--watch"});
  EXPECT_EQ(run.code, kExitJobCancelled);
  EXPECT_EQ(run.out.substr(0, 7), "tiny-1\n");
}

TEST_F(JobCommandsTest, WaitReturnsAtTheFirstStepWhereAsked) {
  fake_.SetWatch("d4-1", {{Message(MakeJob("d4-1", v1::JOB_STATE_STARTING)),
                           Message(MakeJob("d4-1", v1::JOB_STATE_RUNNING, 1)),
                           Message(MakeJob("d4-1", v1::JOB_STATE_FAILED, 2))}});
  EXPECT_EQ(Run({"wait", "d4-1", "--until", "first-step"}).out, "d4-1 running\n");
  EXPECT_EQ(Run({"wait", "d4-1", "--until", "teatime"}).code, kExitUsage);
}

TEST_F(JobCommandsTest, WaitForSeveralGivesTheFirstBadEnd) {
  fake_.SetWatch("a-1", {{Message(MakeJob("a-1", v1::JOB_STATE_SUCCEEDED))}});
  fake_.SetWatch("b-2", {{Message(MakeJob("b-2", v1::JOB_STATE_CANCELLED))}});
  fake_.SetWatch("c-3", {{Message(MakeJob("c-3", v1::JOB_STATE_FAILED))}});
  EXPECT_EQ(Run({"wait", "a-1", "b-2", "c-3"}).code, kExitJobCancelled);
}

TEST_F(JobCommandsTest, ActionsGoOnAfterAnError) {
  fake_.PutJob(MakeJob("a-1", v1::JOB_STATE_RUNNING));
  fake_.PutJob(MakeJob("b-2", v1::JOB_STATE_RUNNING));
  const ClientRun run = Run({"pause", "a-1", "none-9", "b-2"});
  EXPECT_EQ(run.code, kExitNotFound);
  EXPECT_EQ(run.out, "a-1 running\nb-2 running\n");
  EXPECT_THAT(fake_.actions(), ElementsAre("pause a-1", "pause none-9", "pause b-2"));
  EXPECT_EQ(Run({"delete", "a-1"}).out, "a-1 deleted\n");
  EXPECT_EQ(json::parse(Run({"cancel", "a-1", "-o", "json"}).out)["job_id"], "a-1");
}

TEST_F(JobCommandsTest, NoCoordinatorNamesAddressAndNextStep) {
  const std::string address = fake_.address();
  fake_.Stop();
  const ClientRun run = Run({"list", "--retry-for", "0.1"});
  EXPECT_EQ(run.code, kExitUnreachable);
  EXPECT_THAT(run.err, HasSubstr(address));
  EXPECT_THAT(run.err, HasSubstr("SINKFORGE_COORDINATOR"));
  EXPECT_THAT(run.err, HasSubstr("sinkforge local up"));
}

TEST_F(JobCommandsTest, HealthIsTheServersOwnAnswer) {
  EXPECT_TRUE(CheckHealth(fake_.address(), std::chrono::seconds(20)).ok());
  fake_.Stop();
  const absl::Status away = CheckHealth(fake_.address(), std::chrono::milliseconds(50));
  EXPECT_TRUE(absl::IsUnavailable(away)) << away;
}

TEST_F(JobCommandsTest, AnAddressOnTheCommandLineComesFirst) {
  const ClientRun run = Run({"list", "--coordinator", "127.0.0.1:1", "--retry-for", "0.1"});
  EXPECT_EQ(run.code, kExitUnreachable);
  EXPECT_THAT(run.err, HasSubstr("127.0.0.1:1 (--coordinator)"));
}

}  // namespace
}  // namespace sinkforge::client
