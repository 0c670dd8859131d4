// sinkforge completion: shell scripts, made from the command tree.
#include <memory>

#include "client/commands.h"
#include "client/completion_script.h"
#include "client/exit_code.h"
#include "client/session.h"

namespace sinkforge::client {

Command CompletionCommand() {
  auto shell = std::make_shared<std::string>();
  Command command;
  command.name = "completion";
  command.summary = "Print a completion script for a shell";
  command.examples =
      "  source <(sinkforge completion bash)\n"
      "  sinkforge completion zsh > ~/.zfunc/_sinkforge\n"
      "  sinkforge completion fish > ~/.config/fish/completions/sinkforge.fish";
  command.arguments = {{.name = "SHELL",
                        .help = "bash, zsh or fish",
                        .target = shell.get(),
                        .choices = {"bash", "zsh", "fish"}}};
  command.formats = {};
  command.run = [shell](Session& session) -> absl::StatusOr<int> {
    session.out() << CompletionScript(RootCommand(), *shell);
    return kExitOk;
  };
  return command;
}

}  // namespace sinkforge::client
