// The real program: exit codes, streams, completion scripts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "client/commands.h"
#include "client/completion_script.h"
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
    const std::string command = "cd " + folder_.path() + " && HOME=" + folder_.path() +
                                " XDG_STATE_HOME= SINKFORGE_COORDINATOR=127.0.0.1:1 '" +
                                (build == nullptr ? "." : build) + "/bin/sinkforge' " + arguments +
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
  Walk(RootCommand(), "", [&](const Command& command, const std::string& path) {
    const ClientRun run = Run(path + " --help");
    EXPECT_EQ(run.code, 0) << path;
    EXPECT_THAT(run.out, HasSubstr("Usage:")) << path;
    if (command.run != nullptr) {
      EXPECT_THAT(run.out, HasSubstr("Examples:")) << path;
    }
  });
}

TEST_F(ProgramTest, CompletionScriptsAreValidShell) {
  const ClientRun bash = Run("completion bash > script.bash && bash -n script.bash");
  EXPECT_EQ(bash.code, 0) << bash.err;
  EXPECT_THAT(Run("completion zsh").out, HasSubstr("#compdef sinkforge"));
  EXPECT_THAT(Run("completion fish").out, HasSubstr("complete -c sinkforge"));
}

// What bash would offer after these words; the last one is being typed.
class CompletionTest : public ProgramTest {
 protected:
  std::string Complete(const std::string& words, int count) {
    folder_.Write("ask.sh", "source <(\"$1\" completion bash)\nCOMP_WORDS=(" + words +
                                ")\nCOMP_CWORD=" + std::to_string(count - 1) +
                                "\n_sinkforge\necho \"${COMPREPLY[*]}\"\n");
    const char* build = std::getenv("SINKFORGE_BUILD_DIR");
    const std::string program = std::string(build == nullptr ? "." : build) + "/bin/sinkforge";
    const std::string command =
        "cd " + folder_.path() + " && bash ask.sh '" + program + "' > answer 2>&1";
    EXPECT_EQ(std::system(command.c_str()), 0);
    return ReadAll(folder_.path() + "/answer");
  }
};

TEST_F(CompletionTest, OffersSubcommandsOptionsAndChoices) {
  EXPECT_EQ(Complete("sinkforge ch", 2), "checkpoints\n");
  EXPECT_EQ(Complete("sinkforge checkpoints e", 3), "export\n");
  EXPECT_EQ(Complete("sinkforge list --st", 3), "--state\n");
  EXPECT_EQ(Complete("sinkforge list --state q", 4), "queued\n");
  EXPECT_EQ(Complete("sinkforge metrics d4-1 -o c", 5), "csv\n");
  EXPECT_EQ(Complete("sinkforge completion f", 3), "fish\n");
  // A value is not taken for a subcommand.
  EXPECT_EQ(Complete("sinkforge --coordinator list sh", 4), "show\n");
}

TEST_F(CompletionTest, OffersFilesWhereAFileIsMeant) {
  folder_.Write("job.yaml", kJobFile);
  EXPECT_EQ(Complete("sinkforge submit job", 3), "job.yaml\n");
  EXPECT_EQ(Complete("sinkforge show job", 3), "\n");
}

TEST(CompletionScriptTest, KnowsEveryCommandAndOption) {
  const Command root = RootCommand();
  for (const char* shell : {"bash", "fish"}) {
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

}  // namespace
}  // namespace sinkforge::client
