// sinkforge-trainer: trains one rank of a job, alone (train) or for a worker daemon (worker),
// writes text with a trained model (sample), evaluates one (evaluate), and lists the GPUs that it
// can use (gpus). outcome.h has the table of exit codes.
#include <grpc/grpc.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "base/build_info.h"
#include "base/log.h"
#include "base/number_option.h"
#include "base/rpc.h"
#include "base/signals.h"
#include "worker/token_variable.h"
#include "worker/trainer/evaluate_command.h"
#include "worker/trainer/gpus_command.h"
#include "worker/trainer/sample_command.h"
#include "worker/trainer/train_command.h"
#include "worker/trainer/worker_command.h"

namespace {

using sinkforge::base::ExpectNumber;
using sinkforge::trainer::BackendChoice;
using sinkforge::trainer::EvaluateCommand;
using sinkforge::trainer::EvaluateFormat;
using sinkforge::trainer::ExitCode;
using sinkforge::trainer::GpusFormat;
using sinkforge::trainer::SampleCommand;
using sinkforge::trainer::SampleFormat;
using sinkforge::trainer::TrainCommand;

constexpr char kFooter[] =
    "Exit codes: 0 completed, 2 wrong command line, 10 stopped after a checkpoint, 11 abandoned,\n"
    "20 bad job, 21 bad data, 22 the loss is not finite, 23 a checkpoint could not be written or\n"
    "restored, 24 another error, 25 another rank was lost, 26 no GPU can be used, or one\n"
    "or its libraries failed.\n"
    "`sinkforge-trainer --job ...` is short for `sinkforge-trainer train --job ...`.";

struct WorkerCommand {
  std::string socket;
  int64_t parent_pid = 0;
  // What passes between ranks is not encrypted, so that other machines must be asked for.
  std::string collective_host = "127.0.0.1";
  int64_t slots = 1;
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
  const char* token = std::getenv(sinkforge::kTokenVariable);
  if (token == nullptr) {
    std::fprintf(stderr, "error: %s is not set; a worker daemon starts trainers itself\n",
                 sinkforge::kTokenVariable);
    return ExitCode::kUsage;
  }
  sinkforge::base::SetLogComponent("trainer");
  // Held to the end: when its last user goes, the library may wait 10 seconds for an idle poller,
  // and the slot would stay taken as long.
  grpc_init();
  sinkforge::trainer::LinkOptions options;
  options.channel = sinkforge::base::MakeChannel(command.socket);
  options.token = token;
  unsetenv(sinkforge::kTokenVariable);  // no child of ours needs it
  sinkforge::trainer::WorkerLink link(std::move(options));
  return sinkforge::trainer::RunAssignment(link, command.collective_host, command.slots);
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
  ExpectNumber<int64_t>(
      app->add_option("--dump-step", command->dump_step,
                      "Also write batch, parameters, gradients and importance of this step"))
      ->check([](const std::string& text) {
        int64_t step = 0;
        const bool is_step = CLI::detail::lexical_cast(text, step) && step >= 1;
        return is_step ? std::string() : text + ": steps are counted from 1";
      });
  const std::map<std::string, BackendChoice> backends = {{"fast", BackendChoice::kFast},
                                                         {"ref", BackendChoice::kRef}};
  app->add_option("--backend", command->backend,
                  "fast, or ref: the readable reference, slow, to check the fast one")
      ->transform(CLI::CheckedTransformer(backends).description(""));
}

void AddWorkerOptions(CLI::App* app, WorkerCommand* command) {
  app->add_option("--socket", command->socket, "unix:PATH of the worker's TrainerService")
      ->required();
  ExpectNumber<int64_t>(
      app->add_option("--parent-pid", command->parent_pid, "The worker's process id"))
      ->required();
  app->add_option("--collective-host", command->collective_host,
                  "This machine's address for the other ranks (default: 127.0.0.1)");
  ExpectNumber<int64_t>(
      app->add_option("--slots", command->slots,
                      "CPU slots of the worker, which share this machine's memory (default: 1)"))
      ->check(CLI::Range(int64_t{1}, int64_t{1024}));
}

// Ctrl-C and a reader that went away end what trains nothing.
void RestoreSignals() {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  std::signal(SIGPIPE, SIG_DFL);
}

// Of the commands that run an exported model.
template <typename ModelCommand>
void AddModelOptions(CLI::App* app, ModelCommand* command) {
  app->add_option("--model", command->model,
                  "A file that `sinkforge checkpoints export` wrote, or a folder with one")
      ->required();
  app->add_option("--tokenizer", command->tokenizer,
                  "A tokenizer.json, or bytes (default: tokenizer.json beside the model, else what "
                  "its job names)");
  ExpectNumber<int64_t>(app->add_option("--threads", command->threads, "Threads (default: 1)"))
      ->check(CLI::Range(int64_t{1}, int64_t{1024}));
}

void AddEvaluateOptions(CLI::App* app, EvaluateCommand* command) {
  AddModelOptions(app, command);
  app->add_option("--text", command->texts,
                  "Texts: .txt, .jsonl, .bin token shards, or folders of shards");
  app->add_option("--task", command->tasks, "Multiple-choice items, a line of JSON each");
  ExpectNumber<int64_t>(app->add_option("--context", command->context,
                                        "Tokens that a prediction sees at most (default: those of "
                                        "the training's rows)"))
      ->check(CLI::PositiveNumber);
  app->add_option("--delimiter", command->delimiter,
                  "Between query and choice (default: a space, where neither has white space)");
  ExpectNumber<int64_t>(
      app->add_option("--limit", command->items_max, "The first items of a task only"))
      ->check(CLI::PositiveNumber);
  const std::map<std::string, EvaluateFormat> formats = {{"table", EvaluateFormat::kTable},
                                                         {"json", EvaluateFormat::kJson}};
  app->add_option("--format", command->format, "table, or one json document")
      ->transform(CLI::CheckedTransformer(formats).description(""));
}

void AddSampleOptions(CLI::App* app, SampleCommand* command) {
  AddModelOptions(app, command);
  app->add_option("--prompt", command->prompt, "The text to go on from");
  ExpectNumber<int64_t>(app->add_option("--max-tokens", command->tokens_max,
                                        "Tokens to write at most (default: 200)"))
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  ExpectNumber<double>(app->add_option("--temperature", command->sampling.temperature,
                                       "0: always the likeliest token (default: 1)"))
      ->check(CLI::Range(0.0, 1e6));
  ExpectNumber<int64_t>(
      app->add_option("--top-k", command->sampling.top_k,
                      "Draws among the K likeliest tokens; 0: among all (default: 0)"))
      ->check(CLI::NonNegativeNumber);
  ExpectNumber<double>(
      app->add_option(
          "--top-p", command->sampling.top_p,
          "Draws among the fewest likeliest tokens whose probabilities reach P (default: 1)"))
      ->check(CLI::Range(1e-9, 1.0));
  ExpectNumber<uint64_t>(app->add_option("--seed", command->sampling.seed,
                                         "The same seed draws the same (default: 1)"));
  const std::map<std::string, SampleFormat> formats = {{"text", SampleFormat::kText},
                                                       {"json", SampleFormat::kJson}};
  app->add_option("--format", command->format, "text as it comes, or one json document at the end")
      ->transform(CLI::CheckedTransformer(formats).description(""));
}

void AddGpusOptions(CLI::App* app, GpusFormat* format) {
  const std::map<std::string, GpusFormat> formats = {{"text", GpusFormat::kText},
                                                     {"json", GpusFormat::kJson}};
  app->add_option("-o,--output", *format, "text, a line for each, or json: a list of objects")
      ->transform(CLI::CheckedTransformer(formats).description(""));
}

// `train` may be left out.
std::vector<std::string> Arguments(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const std::string first = arguments.empty() ? "--help" : arguments[0];
  const bool named = first == "train" || first == "worker" || first == "sample" ||
                     first == "evaluate" || first == "gpus" || first == "--help" || first == "-h" ||
                     first == "--version" || first == "-V";
  if (arguments.empty()) arguments = {"--help"};
  if (!named) arguments.insert(arguments.begin(), "train");
  std::reverse(arguments.begin(), arguments.end());  // the order in which CLI11 takes a vector
  return arguments;
}

// The code of a program that is done, unless what it printed could not be written.
int CodeOnceWritten(int code) {
  const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  if (written || code != 0) return code;
  std::fputs("error: the output could not be written whole; is the disk full that it goes to?\n",
             stderr);
  return static_cast<int>(ExitCode::kOtherError);
}

}  // namespace

int main(int argc, char** argv) {
  // In worker mode the daemon decides when to stop; a Ctrl-C at its terminal reaches the trainer
  // as well and must not end it before its checkpoint.
  sinkforge::base::BlockTerminationSignals();
  CLI::App app("Trains one rank of a SinkForge job.", "sinkforge-trainer");
  app.set_version_flag("-V,--version", sinkforge::base::VersionText("sinkforge-trainer"));
  app.footer(kFooter);
  app.require_subcommand(1);
  TrainCommand train;
  WorkerCommand worker;
  SampleCommand sample;
  EvaluateCommand evaluate;
  GpusFormat gpus_format = GpusFormat::kText;
  CLI::App* train_app = app.add_subcommand("train", "Train without daemons");
  CLI::App* worker_app = app.add_subcommand("worker", "Train for a worker daemon, which starts it");
  AddTrainOptions(train_app, &train);
  CLI::App* sample_app = app.add_subcommand("sample", "Write text with an exported model");
  CLI::App* evaluate_app = app.add_subcommand("evaluate", "Evaluate an exported model");
  CLI::App* gpus_app = app.add_subcommand("gpus", "List the GPUs that this program can use");
  AddWorkerOptions(worker_app, &worker);
  AddSampleOptions(sample_app, &sample);
  AddEvaluateOptions(evaluate_app, &evaluate);
  AddGpusOptions(gpus_app, &gpus_format);
  try {
    app.parse(Arguments(argc, argv));
    if (*train_app && train.work_dir.empty() && !train.explain_memory) {
      throw CLI::RequiredError("--work-dir");
    }
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? CodeOnceWritten(0) : static_cast<int>(ExitCode::kUsage);
  }
  if (*sample_app || *evaluate_app || *gpus_app) RestoreSignals();
  const ExitCode code = *train_app      ? RunTrainCommand(train)
                        : *sample_app   ? RunSampleCommand(sample)
                        : *evaluate_app ? RunEvaluateCommand(evaluate)
                        : *gpus_app     ? RunGpusCommand(gpus_format)
                                        : RunWorkerCommand(worker);
  // Past the destructors of statics, which the library's idle threads may still use.
  std::_Exit(CodeOnceWritten(static_cast<int>(code)));
}
