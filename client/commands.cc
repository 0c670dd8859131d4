// The root of the command tree, in the order of the help.
#include "client/commands.h"

#include "client/evaluate.h"
#include "client/health.h"

namespace sinkforge::client {

Command RootCommand() {
  Command root;
  root.name = "sinkforge";
  root.summary =
      "Trains language models as scheduled jobs, and watches and balances their attention heads.";
  root.formats = {};  // -o comes after the command, whose formats differ
  root.commands = {
      SubmitCommand(),   SweepCommand(),    ListCommand(),        ShowCommand(),
      WatchCommand(),    WaitCommand(),     LogsCommand(),        MetricsCommand(),
      EventsCommand(),   ReportCommand(),   CancelCommand(),      PauseCommand(),
      ResumeCommand(),   DeleteCommand(),   CheckpointsCommand(), SampleCommand(),
      EvaluateCommand(), TokenizeCommand(), TokenizerCommand(),   WorkersCommand(),
      DrainCommand(),    UndrainCommand(),  ForgetCommand(),      NamespacesCommand(),
      HealthCommand(),   LocalCommand(),    CompletionCommand(),  VersionCommand(),
  };
  return root;
}

}  // namespace sinkforge::client
