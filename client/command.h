// Command: one node of the command tree, as data. Each subcommand's file makes its node; cli.cc
// turns the tree into a parser, and completion.cc into shell scripts, so that both always agree.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"

namespace sinkforge::client {

class Session;

// Where a parsed value goes. The command's own options struct owns it.
using Target =
    std::variant<bool*, std::string*, int64_t*, double*, std::vector<std::string>*,
                 std::optional<int64_t>*, std::optional<double>*, std::optional<std::string>*>;

// Whether a text may be empty. It is mostly a variable of the shell that is not set.
enum class EmptyText { kRefused, kAllowed };

struct Option {
  std::string names;  // "-f,--follow"
  std::string value;  // placeholder in the help: "N"; empty for a flag (bool*)
  std::string help;
  Target target;
  std::vector<std::string> choices = {};  // empty: anything
  EmptyText empty = EmptyText::kRefused;
};

// Positional.
struct Argument {
  enum class Presence { kRequired, kOptional };
  enum class Completion { kNothing, kFiles };
  std::string name;  // "JOB"
  std::string help;
  Target target;  // std::string* or std::vector<std::string>*
  Presence presence = Presence::kRequired;
  Completion completion = Completion::kNothing;
  std::vector<std::string> choices = {};
  EmptyText empty = EmptyText::kRefused;
};

struct Command {
  std::string name;
  std::string summary;   // one line
  std::string examples;  // shown at the end of its help
  std::vector<Argument> arguments = {};
  std::vector<Option> options = {};
  std::vector<std::string> formats = {"table", "json"};  // that -o takes
  std::vector<Command> commands = {};                    // of a group
  // Returns the exit code, or the error to print. Absent in a group.
  std::function<absl::StatusOr<int>(Session&)> run = nullptr;
};

}  // namespace sinkforge::client
