// sinkforge-trainer: trains one rank of a job, alone (train) or for a worker daemon (worker).
// outcome.h has the table of exit codes.
#include <grpc/grpc.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "base/rpc.h"
#include "base/signals.h"
#include "worker/trainer/train_command.h"
#include "worker/trainer/worker_command.h"

namespace {

using sinkforge::trainer::BackendChoice;
using sinkforge::trainer::ExitCode;
using sinkforge::trainer::TrainCommand;

constexpr char kFooter[] =
    "Exit codes: 0 completed, 2 wrong command line, 10 stopped after a checkpoint, 11 abandoned,\n"
    "20 bad job, 21 bad data, 22 the loss is not finite, 23 a checkpoint could not be written or\n"
    "restored, 24 another error, 25 another rank was lost.\n"
    "`sinkforge-trainer --job ...` is short for `sinkforge-trainer train --job ...`.";

struct WorkerCommand {
  std::string socket;
  std::string token;
  int64_t parent_pid = 0;
  // What passes between ranks is not encrypted, so that other machines must be asked for.
  std::string collective_host = "127.0.0.1";
};

// A trainer must not outlive its daemon: it would hold the slot that the next daemon offers.
bool DieWithParent(int64_t parent_pid) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return false;
  // The parent may have died before the call above.
  return getppid() == parent_pid;
}

ExitCode RunWorkerCommand(const WorkerCommand& command) {
  if (!DieWithParent(command.parent_pid)) {
    std::fprintf(stderr,
                 "error: process %lld is not this one's parent; a worker daemon starts "
                 "trainers itself\n",
                 static_cast<long long>(command.parent_pid));
    return ExitCode::kOtherError;
  }
  // Held to the end: when its last user goes, the library may wait 10 seconds for an idle poller,
  // and the slot would stay taken as long.
  grpc_init();
  sinkforge::trainer::LinkOptions options;
  options.channel = sinkforge::base::MakeChannel(command.socket);
  options.token = command.token;
  sinkforge::trainer::WorkerLink link(std::move(options));
  return sinkforge::trainer::RunAssignment(link, command.collective_host);
}

void AddTrainOptions(CLI::App* app, TrainCommand* command) {
  app->add_option("--job", command->job, "Job file (YAML)")->required();
  app->add_option("--work-dir", command->work_dir,
                  "Where metrics.jsonl, checkpoints/ and dump/ are written");
  app->add_flag("--explain-memory", command->explain_memory,
                "Only print what a rank of the job allocates, by name; reads no data");
  app->add_option("--data-root", command->data_roots,
                  "Folder that the job's data paths are under; may be repeated (default: the job "
                  "file's folder)");
  app->add_option("--set", command->overrides, "Sets one key of the job, such as model.width=128");
  app->add_flag("--resume", command->resume, "Go on from the last checkpoint of --work-dir");
  app->add_option("--dump-step", command->dump_step,
                  "Also write batch, parameters, gradients and importance of this step")
      ->check(CLI::PositiveNumber);
  const std::map<std::string, BackendChoice> backends = {{"fast", BackendChoice::kFast},
                                                         {"ref", BackendChoice::kRef}};
  app->add_option("--backend", command->backend,
                  "fast, or ref: the readable reference, slow, to check the fast one")
      ->transform(CLI::CheckedTransformer(backends).description(""));
}

void AddWorkerOptions(CLI::App* app, WorkerCommand* command) {
  app->add_option("--socket", command->socket, "unix:PATH of the worker's TrainerService")
      ->required();
  app->add_option("--token", command->token, "Names this trainer to its worker")->required();
  app->add_option("--parent-pid", command->parent_pid, "The worker's process id")->required();
  app->add_option("--collective-host", command->collective_host,
                  "This machine's address for the other ranks (default: 127.0.0.1)");
}

// `train` may be left out.
std::vector<std::string> Arguments(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const std::string first = arguments.empty() ? "--help" : arguments[0];
  const bool named = first == "train" || first == "worker" || first == "--help" || first == "-h" ||
                     first == "--version";
  if (arguments.empty()) arguments = {"--help"};
  if (!named) arguments.insert(arguments.begin(), "train");
  std::reverse(arguments.begin(), arguments.end());  // the order in which CLI11 takes a vector
  return arguments;
}

}  // namespace

int main(int argc, char** argv) {
  // In worker mode the daemon decides when to stop; a Ctrl-C at its terminal reaches the trainer
  // as well and must not end it before its checkpoint.
  sinkforge::base::BlockTerminationSignals();
  CLI::App app("Trains one rank of a SinkForge job.", "sinkforge-trainer");
  app.set_version_flag("--version", std::string("sinkforge-trainer ") + SINKFORGE_VERSION);
  app.footer(kFooter);
  app.require_subcommand(1);
  TrainCommand train;
  WorkerCommand worker;
  CLI::App* train_app = app.add_subcommand("train", "Train without daemons");
  CLI::App* worker_app = app.add_subcommand("worker", "Train for a worker daemon, which starts it");
  AddTrainOptions(train_app, &train);
  AddWorkerOptions(worker_app, &worker);
  try {
    app.parse(Arguments(argc, argv));
    if (*train_app && train.work_dir.empty() && !train.explain_memory) {
      throw CLI::RequiredError("--work-dir");
    }
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
  }
  const ExitCode code = *train_app ? RunTrainCommand(train) : RunWorkerCommand(worker);
  std::fflush(nullptr);
  // Past the destructors of statics, which the library's idle threads may still use.
  std::_Exit(static_cast<int>(code));
}
