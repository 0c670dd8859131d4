// The real program: exit codes, streams, completion scripts, manual pages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "client/commands.h"
#include "client/completion_script.h"
#include "client/man_page.h"
#include "tests/unit/client/run_client.h"

namespace sinkforge::client {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string ReadAll(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class ProgramTest : public testing::Test {
 protected:
  // With no coordinator anywhere: nothing listens on port 1.
  ClientRun Run(const std::string& arguments) {
    const char* build = std::getenv("SINKFORGE_BUILD_DIR");
    return RunShell("'" + std::string(build == nullptr ? "." : build) + "/bin/sinkforge' " +
                    arguments);
  }
  ClientRun RunShell(const std::string& line) {
    const std::string command = "cd " + folder_.path() + " && HOME=" + folder_.path() +
                                " XDG_STATE_HOME= SINKFORGE_COORDINATOR=127.0.0.1:1 " + line +
                                " > out 2> err";
    ClientRun run;
    const int status = std::system(command.c_str());
    run.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    run.out = ReadAll(folder_.path() + "/out");
    run.err = ReadAll(folder_.path() + "/err");
    return run;
  }

  TempFolder folder_;
};

TEST_F(ProgramTest, VersionIsData) {
  const ClientRun run = Run("version");
  EXPECT_EQ(run.code, 0);
  EXPECT_THAT(run.out, HasSubstr("sinkforge 0."));
  EXPECT_THAT(run.err, IsEmpty());
}

TEST_F(ProgramTest, EveryProgramSaysItsVersionAndBuild) {
  EXPECT_EQ(Run("--version").out, Run("version").out);
  EXPECT_EQ(Run("-V").out, Run("version").out);
  EXPECT_THAT(Run("-V").out, testing::MatchesRegex(
                                 "sinkforge [0-9.]+ \\(protocol sinkforge.v1, [a-z]+, [^)]+\\)\n"));
  EXPECT_EQ(nlohmann::json::parse(Run("version -o json").out)["protocol"], "sinkforge.v1");
}

TEST_F(ProgramTest, WithoutStdoutNothingElseIsWrittenTo) {
  const char* build = std::getenv("SINKFORGE_BUILD_DIR");
  ASSERT_NE(build, nullptr) << "run it through ctest";
  const std::string err = folder_.path() + "/err";
  for (const char* arguments : {"version", "list --retry-for 0.05", "health 127.0.0.1:1"}) {
    const int status = std::system(("'" + std::string(build) + "/bin/sinkforge' " + arguments +
                                    " --coordinator 127.0.0.1:1 >&- 2>'" + err + "'")
                                       .c_str());
    ASSERT_TRUE(WIFEXITED(status)) << arguments;
    EXPECT_NE(WEXITSTATUS(status), 0) << arguments;
    EXPECT_THAT(ReadAll(err), Not(IsEmpty())) << arguments;
  }
}

TEST_F(ProgramTest, WrongUsageIs2AndSaysWhatIsWrong) {
  for (const char* arguments :
       {"", "frobnicate", "list --frobnicate", "submit", "show", "list -o yaml", "completion tcsh",
        "checkpoints", "local", "logs d4-1 --tail many", "--frobnicate"}) {
    const ClientRun run = Run(arguments);
    EXPECT_EQ(run.code, 2) << arguments;
    EXPECT_THAT(run.err, Not(IsEmpty())) << arguments;
    EXPECT_THAT(run.out, IsEmpty()) << arguments;
  }
}

TEST_F(ProgramTest, NamesTheNearestCommand) {
  const ClientRun list = Run("lst");
  EXPECT_EQ(list.code, 2);
  EXPECT_THAT(list.err, HasSubstr("sinkforge: no command `lst`; did you mean `list`?"));
  const ClientRun nested = Run("checkpoints exprt d4-1");
  EXPECT_EQ(nested.code, 2);
  EXPECT_THAT(nested.err, HasSubstr("sinkforge checkpoints: no command `exprt`; did you mean "
                                    "`export`?"));
  const ClientRun far = Run("frobnicate");
  EXPECT_THAT(far.err, HasSubstr("no command `frobnicate`\n"));
  EXPECT_THAT(far.err, HasSubstr("sinkforge --help"));
  EXPECT_THAT(Run("local").err, HasSubstr("A subcommand is required"));
}

TEST_F(ProgramTest, EscapeSequencesReachNoTerminal) {
  for (const char* arguments :
       {"\"$(printf 'a\\033[31mb')\"", "show \"$(printf 'a\\033[31mb')\"",
        "list \"$(printf -- '--a\\033[31mb')\"", "submit \"$(printf 'a\\033[31mb')\"",
        "health \"$(printf 'a\\033[31mb')\""}) {
    const ClientRun run = Run(std::string(arguments) + " --retry-for 0.05");
    EXPECT_NE(run.code, 0) << arguments;
    EXPECT_THAT(run.err, Not(HasSubstr("\033"))) << arguments;
  }
  EXPECT_THAT(Run("\"$(printf 'a\\033[31mb')\"").err, HasSubstr("a\\x1b[31mb"));
}

TEST_F(ProgramTest, HealthOfNobodyIs4) {
  const ClientRun run = Run("health 127.0.0.1:1");
  EXPECT_EQ(run.code, 4);
  EXPECT_THAT(run.err, HasSubstr("127.0.0.1:1"));
}

TEST_F(ProgramTest, NoCoordinatorIs4) {
  for (const char* arguments : {"list", "show d4-1", "watch d4-1", "logs d4-1", "metrics d4-1",
                                "events d4-1", "cancel d4-1", "workers", "sweep show x",
                                "checkpoints list d4-1", "--retry-for 0.1 list"}) {
    const ClientRun run = Run(std::string(arguments) + " --retry-for 0.05");
    EXPECT_EQ(run.code, 4) << arguments << run.err;
    EXPECT_THAT(run.err, HasSubstr("127.0.0.1:1")) << arguments;
    EXPECT_THAT(run.out, IsEmpty()) << arguments;
  }
}

TEST_F(ProgramTest, DryRunNeedsNoCoordinator) {
  folder_.Write("job.yaml", kJobFile);
  EXPECT_EQ(Run("submit job.yaml --dry-run").code, 0);
  EXPECT_EQ(Run("submit none.yaml --dry-run").code, 3);
  folder_.Write("bad.yaml", "model: {width: -1}\n");
  EXPECT_EQ(Run("submit bad.yaml --dry-run").code, 2);
  EXPECT_EQ(Run("sweep job.yaml --seeds 1,2 --dry-run").out, "tiny-s1\ntiny-s2\n");
  const auto json =
      nlohmann::json::parse(Run("sweep job.yaml --seeds 1,2 --dry-run -o json").out)["jobs"];
  ASSERT_EQ(json.size(), 2U);
  EXPECT_EQ(json[1]["name"], "tiny-s2");
  EXPECT_THAT(json[1]["job_file"].get<std::string>(), HasSubstr("seed: 2"));
}

// With a trainer of the test's own beside the program.
TEST_F(ProgramTest, ASampleWhoseReaderWentAwayEndsQuietly) {
  namespace fs = std::filesystem;
  const char* build = std::getenv("SINKFORGE_BUILD_DIR");
  ASSERT_NE(build, nullptr) << "run it through ctest";
  fs::copy_file(std::string(build) + "/bin/sinkforge", folder_.path() + "/sinkforge");
  const auto sample = [&](const std::string& signal) {
    const std::string trainer =
        folder_.Write("sinkforge-trainer", "#!/bin/sh\nkill -" + signal + " $$\n");
    fs::permissions(trainer, fs::perms::owner_all);
    return RunShell("./sinkforge sample sinkforge-trainer");
  };
  const ClientRun closed = sample("PIPE");
  EXPECT_EQ(closed.code, 0);
  EXPECT_THAT(closed.err, IsEmpty());
  const ClientRun killed = sample("KILL");
  EXPECT_EQ(killed.code, 1);
  EXPECT_THAT(killed.err, HasSubstr("sinkforge-trainer was ended by signal 9 (Killed)"));
}

TEST_F(ProgramTest, AnInterruptedTokenizeLeavesNothing) {
  const char* build = std::getenv("SINKFORGE_BUILD_DIR");
  ASSERT_NE(build, nullptr) << "run it through ctest";
  folder_.Write("big.txt", std::string(4 << 20, 'a'));  // a shard of each 8: more than can be made
  for (const char* signal : {"INT", "TERM"}) {
    const ClientRun run =
        RunShell("sh -c '\"" + std::string(build) +
                 "/bin/sinkforge\" tokenize big.txt --shard-tokens 8 --to shards & "
                 "until test -e shards.partial/shard-00003.bin; do sleep 0.01; done; kill -" +
                 signal + " $!; wait $!'");
    EXPECT_EQ(run.code, 130) << signal;
    EXPECT_EQ(run.out, "");
    EXPECT_THAT(run.err, HasSubstr("sinkforge: shards: interrupted; nothing was kept\n"));
    EXPECT_FALSE(std::filesystem::exists(folder_.path() + "/shards.partial")) << signal;
    EXPECT_FALSE(std::filesystem::exists(folder_.path() + "/shards")) << signal;
  }
}

TEST_F(ProgramTest, EveryJobFileThatIsDeliveredIsValid) {
  const char* source = std::getenv("SINKFORGE_SOURCE_DIR");
  ASSERT_NE(source, nullptr) << "run it through ctest";
  int count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(source) + "/deploy/jobs")) {
    if (entry.path().extension() != ".yaml") continue;
    ++count;
    const ClientRun run = Run("submit --dry-run " + entry.path().string());
    EXPECT_EQ(run.code, 0) << entry.path() << run.err;
  }
  EXPECT_GE(count, 18);  // the paper's grid
}

// Every node of the tree.
void Walk(const Command& command, const std::string& path,
          const std::function<void(const Command&, const std::string&)>& visit) {
  visit(command, path);
  for (const Command& child : command.commands) {
    Walk(child, path.empty() ? child.name : path + " " + child.name, visit);
  }
}

TEST_F(ProgramTest, EveryCommandHasHelpWithExamples) {
  Walk(RootCommand(), "", [&](const Command&, const std::string& path) {
    const ClientRun run = Run(path + " --help");
    EXPECT_EQ(run.code, 0) << path;
    EXPECT_THAT(run.out, HasSubstr("Usage:")) << path;
    if (!path.empty()) {
      EXPECT_THAT(run.out, HasSubstr("Examples:")) << path;
    }
  });
}

TEST(CompletionScriptTest, KnowsEveryCommandAndOption) {
  const Command root = RootCommand();
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const std::string script = CompletionScript(root, shell);
    Walk(root, "", [&](const Command& command, const std::string&) {
      EXPECT_THAT(script, HasSubstr(command.name));
      for (const Option& option : command.options) {
        const std::string name = option.names.substr(option.names.rfind("--") + 2);
        EXPECT_THAT(script, HasSubstr(name)) << shell;
      }
    });
  }
}

TEST(ManPageTest, EveryCommandHasAPageWithItsOptions) {
  const Command root = RootCommand();
  const std::map<std::string, std::string> pages = ManPages(root, "1.2.3");
  size_t count = 0;
  Walk(root, "", [&](const Command& command, const std::string& path) {
    ++count;
    std::string name = path.empty() ? "sinkforge" : "sinkforge " + path;
    std::replace(name.begin(), name.end(), ' ', '-');
    ASSERT_TRUE(pages.count(name + ".1")) << name;
    const std::string& page = pages.at(name + ".1");
    EXPECT_THAT(page, HasSubstr("SinkForge 1.2.3")) << name;
    for (const Option& option : command.options) EXPECT_THAT(page, HasSubstr(option.value)) << name;
    for (const Argument& argument : command.arguments) {
      EXPECT_THAT(page, HasSubstr("\\fI" + argument.name + "\\fR")) << name;
    }
  });
  EXPECT_EQ(pages.size(), count);
}

TEST(ManPageTest, TextCannotBecomeAMacro) {
  Command root;
  root.name = "sinkforge";
  root.summary = ".so /etc/passwd";
  root.examples = ".so /etc/passwd\nC:\\n 'quoted'";
  const std::string page = ManPages(root, "1").at("sinkforge.1");
  EXPECT_THAT(page, Not(HasSubstr("\n.so")));
  EXPECT_THAT(page, HasSubstr("C:\\en \\(aqquoted\\(aq"));
}

}  // namespace
}  // namespace sinkforge::client
