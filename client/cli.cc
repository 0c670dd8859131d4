// The command tree as a CLI11 parser. The only file that includes CLI11, which is slow to compile.
#include "client/cli.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "base/build_info.h"
#include "base/number_option.h"
#include "client/commands.h"
#include "client/common_options.h"
#include "client/exit_code.h"
#include "client/printable.h"
#include "proto/jobspec/nearest_name.h"
#include "tokenizer/unicode.h"

namespace sinkforge::client {
namespace {

// Longer than any line of ours: CLI11 does not wrap, and aligns help texts at this column.
constexpr size_t kHelpColumn = 34;

CLI::Option* AddTarget(CLI::App* app, const std::string& names, const Target& target,
                       const std::string& help) {
  return std::visit(
      [&](auto* value) -> CLI::Option* {
        using Value = std::remove_pointer_t<decltype(value)>;
        if constexpr (std::is_same_v<Value, bool>) {
          return app->add_flag(names, *value, help);
        } else if constexpr (std::is_same_v<Value, std::optional<int64_t>> ||
                             std::is_same_v<Value, std::optional<double>> ||
                             std::is_same_v<Value, std::optional<std::string>>) {
          using Inner = typename Value::value_type;
          return app->add_option_function<Inner>(
              names, [value](const Inner& given) { *value = given; }, help);
        } else {
          return app->add_option(names, *value, help);
        }
      },
      target);
}

bool IsText(const Target& target) {
  return std::holds_alternative<std::string*>(target) ||
         std::holds_alternative<std::vector<std::string>*>(target) ||
         std::holds_alternative<std::optional<std::string>*>(target);
}

// Names of files are any bytes; other texts go to daemons, whose messages hold UTF-8 only.
enum class TextKind { kFileName, kUtf8 };

// A value that is called so is more than one: what follows up to the next option.
constexpr char kFiles[] = "FILE...";

// Every command calls an option's value so where it is a file.
TextKind KindOf(const Option& option) {
  const std::string& value = option.value;
  return value == "FILE" || value == kFiles || value == "FOLDER" ? TextKind::kFileName
                                                                 : TextKind::kUtf8;
}

TextKind KindOf(const Argument& argument) {
  return argument.completion == Argument::Completion::kFiles ? TextKind::kFileName
                                                             : TextKind::kUtf8;
}

void CheckText(CLI::Option* option, const Target& target, EmptyText empty, TextKind kind) {
  if (!IsText(target)) return;
  option->check([empty, kind](const std::string& text) -> std::string {
    if (text.empty() && empty == EmptyText::kRefused) {
      return "is empty; give a value (is a variable of the shell not set?)";
    }
    if (kind == TextKind::kUtf8 && !tokenizer::IsValidUtf8(text)) {
      return absl::StrCat("`", text, "` is not UTF-8 text");
    }
    return "";
  });
}

void CheckNumber(CLI::Option* option, const Target& target) {
  if (std::holds_alternative<int64_t*>(target) ||
      std::holds_alternative<std::optional<int64_t>*>(target)) {
    base::ExpectNumber<int64_t>(option);
  } else if (std::holds_alternative<double*>(target) ||
             std::holds_alternative<std::optional<double>*>(target)) {
    base::ExpectNumber<double>(option);
  }
}

// Each occurrence takes one value: otherwise `--set a=1 job.yaml` would swallow the file. Only
// where a list of files is meant it takes them all.
void LimitToOneValue(CLI::Option* added, const Option& option) {
  if (std::holds_alternative<std::vector<std::string>*>(option.target) && option.value != kFiles) {
    added->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
}

void AddOption(CLI::App* app, const Option& option, const std::string& group) {
  CLI::Option* added = AddTarget(app, option.names, option.target, option.help);
  LimitToOneValue(added, option);
  CheckText(added, option.target, option.empty, KindOf(option));
  CheckNumber(added, option.target);
  if (!option.choices.empty()) added->check(CLI::IsMember(option.choices));
  if (!option.value.empty()) added->option_text(option.value);
  if (!group.empty()) added->group(group);
}

void AddCommonOptions(CLI::App* app, const std::vector<std::string>& formats,
                      GlobalOptions* global) {
  for (const Option& option : CommonOptions(formats, global)) {
    AddOption(app, option, "Common options");
  }
}

// `chosen` receives the command whose name the arguments give.
void AddCommand(CLI::App* parent, const Command& command, GlobalOptions* global,
                const Command** chosen) {
  CLI::App* app = parent->add_subcommand(command.name, command.summary);
  app->get_formatter()->column_width(kHelpColumn);
  if (!command.examples.empty()) app->footer(absl::StrCat("Examples:\n", command.examples));
  for (const Command& child : command.commands) AddCommand(app, child, global, chosen);
  if (command.run == nullptr) {
    app->require_subcommand(1);
    return;
  }
  for (const Argument& argument : command.arguments) {
    CLI::Option* option = AddTarget(app, argument.name, argument.target, argument.help);
    // A command that has subcommands as well checks below, when it is known that none was given.
    if (argument.presence == Argument::Presence::kRequired) {
      option->required(command.commands.empty());
    }
    CheckText(option, argument.target, argument.empty, KindOf(argument));
    if (!argument.choices.empty()) option->check(CLI::IsMember(argument.choices));
    option->option_text(" ");
  }
  for (const Option& option : command.options) AddOption(app, option, "");
  AddCommonOptions(app, command.formats, global);
  app->callback([app, &command, chosen] {
    if (!app->get_subcommands().empty()) return;
    for (const Argument& argument : command.arguments) {
      const bool is_required = argument.presence == Argument::Presence::kRequired;
      if (is_required && app->get_option(argument.name)->empty()) {
        throw CLI::RequiredError(argument.name);
      }
    }
    *chosen = &command;
  });
}

absl::Status CheckGlobalOptions(const GlobalOptions& global) {
  constexpr double kRetrySecondsMax = 1e6;
  // Written so that NaN is refused too.
  const bool holds = !global.retry_seconds.has_value() ||
                     (*global.retry_seconds >= 0 && *global.retry_seconds <= kRetrySecondsMax);
  if (holds) return absl::OkStatus();
  return UsageError(
      absl::StrCat("--retry-for ", *global.retry_seconds, ": must be from 0 to 1000000 seconds"));
}

void PrintError(const absl::Status& status, const Environment& environment) {
  *environment.err << "sinkforge: " << Printable(std::string(status.message())) << std::endl;
}

// UNAVAILABLE: not everything that was printed could be written.
absl::Status FlushOutput(const Environment& environment) {
  environment.out->flush();
  if (environment.out->good()) return absl::OkStatus();
  return absl::UnavailableError(
      "the output could not be written whole; is the disk full that it goes to?");
}

// "sinkforge: no command `lst`; did you mean `list`?", where an argument stands in the place of a
// command and is none; else empty.
std::string UnknownCommandMessage(const CLI::App& root) {
  const CLI::App* app = &root;
  std::string name = root.get_name();
  while (!app->get_subcommands().empty()) {
    app = app->get_subcommands().front();
    absl::StrAppend(&name, " ", app->get_name());
  }
  const std::vector<std::string> left = app->remaining();
  if (app->get_require_subcommand_min() == 0 || left.empty()) return "";
  if (left.front().rfind('-', 0) == 0) return "";
  std::vector<std::string> names;
  for (const CLI::App* child : app->get_subcommands({})) names.push_back(child->get_name());
  const std::string nearest = jobspec::NearestName(names, left.front());
  return absl::StrCat(name, ": no command `", left.front(), "`",
                      nearest.empty() ? "" : absl::StrCat("; did you mean `", nearest, "`?"),
                      "\nAll commands: `", name, " --help`.\n");
}

// Prints help, or what is wrong; returns the exit code.
int PrintParseError(const CLI::App& app, const CLI::ParseError& error,
                    const Environment& environment) {
  std::ostringstream out;
  std::ostringstream err;
  const int code = app.exit(error, out, err);
  *environment.out << out.str();
  if (code == 0) {
    const absl::Status written = FlushOutput(environment);
    if (!written.ok()) PrintError(written, environment);
    return ExitCodeOf(written);
  }
  const std::string unknown = UnknownCommandMessage(app);
  *environment.err << Printable(unknown.empty() ? err.str() : unknown) << std::flush;
  return kExitUsage;
}

}  // namespace

int RunCommandLine(const std::vector<std::string>& arguments, const Environment& environment) {
  GlobalOptions global;
  const Command root = RootCommand();
  const Command* chosen = nullptr;
  CLI::App app(root.summary, root.name);
  app.get_formatter()->column_width(kHelpColumn);
  app.set_version_flag("-V,--version", base::VersionText(root.name), "Print the version");
  app.require_subcommand(1);
  app.footer(absl::StrCat(ExitCodeHelp(), "\nHelp of one command: `sinkforge COMMAND --help`."));
  AddCommonOptions(&app, {}, &global);
  for (const Command& command : root.commands) AddCommand(&app, command, &global, &chosen);
  // CLI11 takes the arguments in reverse order.
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  try {
    app.parse(std::move(reversed));
  } catch (const CLI::ParseError& error) {
    return PrintParseError(app, error, environment);
  }
  Session session(environment, global);
  const absl::Status valid = CheckGlobalOptions(global);
  const absl::StatusOr<int> code = valid.ok() ? chosen->run(session) : valid;
  const absl::Status written = code.ok() ? FlushOutput(environment) : code.status();
  if (written.ok()) return *code;
  PrintError(written, environment);
  return ExitCodeOf(written);
}

}  // namespace sinkforge::client
