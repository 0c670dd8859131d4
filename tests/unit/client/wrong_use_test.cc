// Arguments that cannot be meant: what is refused, with which exit code, and what the message says
// to write instead.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "client/exit_code.h"
#include "tests/unit/client/fake_services.h"
#include "tests/unit/client/run_client.h"

namespace sinkforge::client {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class WrongUseTest : public testing::Test {
 protected:
  ClientRun Run(const std::vector<std::string>& arguments) {
    ClientWorld world;
    world.variables = {{"SINKFORGE_COORDINATOR", fake_.address()}, {"HOME", folder_.path()}};
    return RunClient(arguments, world);
  }
  // Usage errors: nothing on stdout, and `message` on stderr.
  void ExpectRefused(const std::vector<std::string>& arguments, const std::string& message) {
    const ClientRun run = Run(arguments);
    EXPECT_EQ(run.code, kExitUsage) << message << "\n" << run.err;
    EXPECT_THAT(run.err, HasSubstr(message));
    EXPECT_THAT(run.out, IsEmpty());
  }

  TempFolder folder_;
  FakeServices fake_;
};

TEST_F(WrongUseTest, AnEmptyValueIsNamed) {
  for (const std::vector<std::string>& command :
       std::vector<std::vector<std::string>>{{"show"},
                                             {"watch"},
                                             {"wait"},
                                             {"logs"},
                                             {"metrics"},
                                             {"events"},
                                             {"cancel"},
                                             {"delete"},
                                             {"report"},
                                             {"sample"},
                                             {"evaluate"},
                                             {"checkpoints", "list"},
                                             {"checkpoints", "export", "d4-1"}}) {
    std::vector<std::string> arguments = command;
    arguments.emplace_back("");
    ExpectRefused(arguments, "is empty; give a value");
  }
  ExpectRefused({"drain", ""}, "WORKER: is empty");
  ExpectRefused({"forget", ""}, "WORKER: is empty");
  ExpectRefused({"wait", "d4-1", ""}, "JOB: is empty");
  ExpectRefused({"list", "--sweep", ""}, "--sweep: is empty");
  ExpectRefused({"list", "--coordinator", ""}, "--coordinator: is empty");
  ExpectRefused({"metrics", "d4-1", "--series", ""}, "--series: is empty");
}

TEST_F(WrongUseTest, AnAddressHasAHostAndAPort) {
  ExpectRefused({"list", "--coordinator", "127.0.0.1"},
                "address `127.0.0.1` (--coordinator): the port is missing");
  for (const char* address :
       {":7070", "host:", "host:http", "host:0", "host:65536", "[::1]", "http://host:7070"}) {
    ExpectRefused({"list", "--coordinator", address}, "no HOST:PORT");
  }
  ExpectRefused({"health", "box"}, "address `box` (ADDRESS): the port is missing");
  const ClientRun variable = RunClient({"list"}, {.variables = {{"SINKFORGE_COORDINATOR", "box"}}});
  EXPECT_EQ(variable.code, kExitUsage);
  EXPECT_THAT(variable.err, HasSubstr("(SINKFORGE_COORDINATOR)"));
}

// RFC 6761 keeps the name from ever being one.
TEST_F(WrongUseTest, AHostThatNobodyKnowsIsNamed) {
  const ClientRun run = Run({"list", "--coordinator", "nobody.invalid:7070", "--retry-for", "0.1"});
  EXPECT_EQ(run.code, kExitUnreachable);
  EXPECT_THAT(run.err, HasSubstr("nobody.invalid:7070 (--coordinator)"));
}

TEST_F(WrongUseTest, TheLocalInstanceNeedsAPlaceForItsState) {
  for (const char* command : {"up", "down", "status"}) {
    const ClientRun run = RunClient({"local", command}, {});
    EXPECT_EQ(run.code, kExitUsage) << command;
    EXPECT_THAT(run.err, HasSubstr("HOME is not set")) << command;
  }
}

TEST_F(WrongUseTest, TextForTheCoordinatorIsUtf8) {
  ExpectRefused({"show", "d4\xff"}, "is not UTF-8 text");
  ExpectRefused({"list", "--namespace", "\xff"}, "--namespace");
  ExpectRefused({"namespaces", "set", "\xff", "--weight", "2"}, "NAMESPACE");
  const std::string file = folder_.Write("job.yaml", kJobFile);
  ExpectRefused({"submit", file, "--set", "data.train=\xff"}, "--set");
}

TEST_F(WrongUseTest, NamesOfSweepsHaveARule) {
  const std::string rule = "1 to 40 characters of a-z, 0-9 and -";
  ExpectRefused({"sweep", "show", ""}, rule);
  ExpectRefused({"sweep", "show", "Bad Name"}, "the sweep's name `Bad Name` is not a valid name");
  const std::string file = folder_.Write("job.yaml", kJobFile);
  for (const char* name : {"", "Bad Name", "-x", "a_b"}) {
    ExpectRefused({"sweep", file, "--seeds", "1,2", "--name", name}, rule);
  }
  EXPECT_THAT(fake_.submissions(), IsEmpty());
}

TEST_F(WrongUseTest, ASweepOfALongJobNameHasANameOfItsOwn) {
  const std::string file = folder_.Write("job.yaml", kJobFile);
  for (int i = 0; i < 2; ++i) {
    const ClientRun run =
        Run({"sweep", file, "--seeds", "1", "--set", "name=" + std::string(40, 'a')});
    EXPECT_EQ(run.code, kExitOk) << run.err;
  }
  const auto submissions = fake_.submissions();
  ASSERT_EQ(submissions.size(), 2U);
  EXPECT_NE(submissions[0].sweep(), submissions[1].sweep());
}

TEST_F(WrongUseTest, StepsOfMetricsCountFromOne) {
  ExpectRefused({"metrics", "d4-1", "--from", "0", "--to", "0"}, "--from 0: steps count from 1");
  ExpectRefused({"metrics", "d4-1", "--to", "0"}, "leave it out for the last one");
  ExpectRefused({"metrics", "d4-1", "--to", "-3"}, "--to -3");
  ExpectRefused({"metrics", "d4-1", "--from", "3", "--to", "2"}, "comes after the last");
  ExpectRefused({"metrics", "d4-1", "--series", ","}, "--series");
}

TEST_F(WrongUseTest, NumbersOutOfRangeAreRefused) {
  ExpectRefused({"logs", "d4-1", "--rank", "-1"}, "--rank must be from 0 to 1023");
  ExpectRefused({"logs", "d4-1", "--rank", "5000000000"}, "--rank must be from 0 to 1023");
  ExpectRefused({"watch", "d4-1", "--after-step", "-5"}, "--after-step must be 0");
  for (const char* seconds : {"-1", "nan", "inf", "1e300"}) {
    ExpectRefused({"list", "--retry-for", seconds}, "must be from 0 to 1000000 seconds");
    ExpectRefused({"local", "up", "--timeout", seconds}, "must be from 0 to 86400 seconds");
    ExpectRefused({"local", "down", "--grace", seconds}, "must be from 0 to 86400 seconds");
  }
}

TEST_F(WrongUseTest, WhatIsNoNumberIsTold) {
  const std::string whole = ": expects a whole number, not `";
  ExpectRefused({"sweep", "job.yaml", "--max-running", "x"}, "--max-running" + whole + "x`");
  ExpectRefused({"logs", "d4-1", "--tail", "1.5"}, "--tail" + whole + "1.5`");
  ExpectRefused({"sample", "d4-1", "--temperature", "hot"},
                "--temperature: expects a number, not `hot`");
}

TEST_F(WrongUseTest, AKeyIsAnAxisOrSetAndNotBoth) {
  const std::string file = folder_.Write("job.yaml", kJobFile);
  ExpectRefused({"sweep", file, "--grid", "model.layers=2,3", "--set", "model.layers=4"},
                "model.layers is there twice: in --set, and as an axis of the grid");
  ExpectRefused({"sweep", file, "--seeds", "1", "--set", "train.seed=4"}, "train.seed is there");
  EXPECT_EQ(
      Run({"sweep", file, "--grid", "model.layers=2,3", "--set", "model.width=64", "--dry-run"})
          .code,
      kExitOk);
}

// What the coordinator calls invalid is what the user gave.
TEST_F(WrongUseTest, ARefusalByTheCoordinatorIsWrongUse) {
  fake_.RefuseNamespaces(absl::InvalidArgumentError("weight: is 0; it must be above 0"));
  ExpectRefused({"namespaces", "set", "team", "--weight", "0"}, "weight: is 0; it must be above 0");
  fake_.RefuseNamespaces(absl::ResourceExhaustedError("too many"));
  EXPECT_EQ(Run({"namespaces", "set", "team", "--weight", "2"}).code, kExitError);
}

TEST_F(WrongUseTest, FilesAreNotWrittenToStdout) {
  ExpectRefused({"checkpoints", "export", "d4-1", "-"}, "not to stdout; give a name (./-");
  const std::string text = folder_.Write("a.txt", "some text");
  ExpectRefused({"tokenizer", "train", text, "--to", "-"}, "not to stdout");
  EXPECT_FALSE(std::filesystem::exists("-"));
}

TEST_F(WrongUseTest, AFileInNoFolderIsRefusedBeforeTheWork) {
  const std::string text = folder_.Write("a.txt", "some text");
  const std::string none = folder_.path() + "/none";
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"tokenizer", "train", text, "--to", none + "/x.json"},
                                             {"checkpoints", "export", "d4-1", none + "/m"}}) {
    const ClientRun run = Run(arguments);
    EXPECT_EQ(run.code, kExitError);
    EXPECT_THAT(run.err, HasSubstr("the folder " + none +
                                   " does not exist; create it, or give another name"));
  }
  const ClientRun under_file = Run({"tokenizer", "train", text, "--to", text + "/x.json"});
  EXPECT_EQ(under_file.code, kExitError);
  EXPECT_THAT(under_file.err, HasSubstr("a.txt: Not a directory"));
}

TEST_F(WrongUseTest, ShardsGoToAFolderWhoseParentsAreMade) {
  const std::string text = folder_.Write("a.txt", "some text");
  const std::string to = folder_.path() + "/data/train";
  EXPECT_EQ(Run({"tokenize", text, "--to", to}).code, kExitOk);
  EXPECT_TRUE(std::filesystem::exists(to + "/shard-00000.bin"));
}

TEST_F(WrongUseTest, FilesWithoutTextMakeNoShards) {
  const std::string empty = folder_.Write("empty.txt", "");
  const std::string blank = folder_.Write("blank.jsonl", "\n{\"text\": \"\"}\n");
  const std::string to = folder_.path() + "/shards";
  for (const std::string& file : {empty, blank}) {
    for (const std::vector<std::string>& command :
         std::vector<std::vector<std::string>>{{"tokenize"}, {"tokenizer", "train"}}) {
      std::vector<std::string> arguments = command;
      arguments.insert(arguments.end(), {file, "--to", to});
      const ClientRun run = Run(arguments);
      EXPECT_EQ(run.code, kExitError);
      EXPECT_THAT(run.err, HasSubstr(file));
      EXPECT_THAT(run.out, IsEmpty());
    }
  }
  // Not even a part of the folder.
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    files += entry.path() == empty || entry.path() == blank ? 0 : 1;
  }
  EXPECT_EQ(files, 0);
}

TEST_F(WrongUseTest, AnEmptyFileAmongOthersIsPassedOverWithAWarning) {
  const std::string empty = folder_.Write("empty.txt", "");
  const std::string text = folder_.Write("a.txt", "some text");
  const ClientRun run = Run({"tokenize", empty, text, "--to", folder_.path() + "/z", "-o", "json"});
  EXPECT_EQ(run.code, kExitOk) << run.err;
  EXPECT_THAT(run.err, AllOf(HasSubstr("warning: "), HasSubstr("empty.txt is empty"),
                             Not(HasSubstr("a.txt"))));
  EXPECT_EQ(nlohmann::json::parse(run.out)["documents"], 1);
}

TEST_F(WrongUseTest, NamesOfFilesMayBeAnyBytes) {
  const std::string text = folder_.Write("\xff.txt", "some text");
  const ClientRun run = Run({"tokenize", text, "--to", folder_.path() + "/z\xff", "-o", "json"});
  EXPECT_EQ(run.code, kExitOk) << run.err;
  EXPECT_THAT(nlohmann::json::parse(run.out)["folder"].get<std::string>(), HasSubstr("/z\uFFFD"));
}

}  // namespace
}  // namespace sinkforge::client
