// The nodes of the command tree, one function per subcommand, each in the file of its name.
#pragma once

#include "client/command.h"

namespace sinkforge::client {

Command RootCommand();  // commands.cc

Command SubmitCommand();
Command ListCommand();
Command ShowCommand();
Command WatchCommand();
Command WaitCommand();
Command LogsCommand();
Command MetricsCommand();
Command EventsCommand();
Command ReportCommand();
Command CancelCommand();
Command PauseCommand();
Command ResumeCommand();
Command DeleteCommand();
Command CheckpointsCommand();
Command CheckpointsExportCommand();
Command CheckpointsVerifyCommand();
Command SweepCommand();
Command SampleCommand();
Command TokenizeCommand();
Command TokenizerCommand();
Command WorkersCommand();
Command DrainCommand();
Command UndrainCommand();
Command ForgetCommand();
Command NamespacesCommand();
Command LocalCommand();
Command CompletionCommand();
Command VersionCommand();

}  // namespace sinkforge::client
