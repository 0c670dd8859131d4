// Completion scripts. bash and zsh share one: zsh runs bash's by its own compatibility module.
#include "client/completion_script.h"

#include <functional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace sinkforge::client {
namespace {

std::vector<std::string> NamesOf(const Option& option) { return absl::StrSplit(option.names, ','); }

// A command's own options and those that cli.cc gives it: the common ones to the root and to every
// command that runs, --help to groups as well. `path`: empty for the root.
std::vector<Option> AllOptions(const Command& command, const std::string& path) {
  static std::string unused;
  if (command.run == nullptr && !path.empty()) return {{"-h,--help", "", "Print help", &unused}};
  std::vector<Option> options = command.options;
  options.push_back({"--coordinator", "HOST:PORT", "Address of the coordinator", &unused});
  options.push_back({"--retry-for", "SECONDS", "How long to try again", &unused});
  if (!command.formats.empty()) {
    options.push_back({"-o,--output", "FORMAT", "Output format", &unused, command.formats});
  }
  options.push_back({"-h,--help", "", "Print help", &unused});
  return options;
}

bool TakesFiles(const Command& command) {
  for (const Argument& argument : command.arguments) {
    if (argument.completion == Argument::Completion::kFiles) return true;
  }
  return false;
}

// `path` is the command's words without the program: "checkpoints export".
using Visitor = std::function<void(const Command& command, const std::string& path)>;

void Visit(const Command& command, const std::string& path, const Visitor& visitor) {
  visitor(command, path);
  for (const Command& child : command.commands) {
    Visit(child, path.empty() ? child.name : absl::StrCat(path, " ", child.name), visitor);
  }
}

// What can come next: subcommands, choices of an argument, options.
std::vector<std::string> Words(const Command& command, const std::string& path) {
  std::vector<std::string> words;
  for (const Command& child : command.commands) words.push_back(child.name);
  for (const Argument& argument : command.arguments) {
    words.insert(words.end(), argument.choices.begin(), argument.choices.end());
  }
  for (const Option& option : AllOptions(command, path)) {
    for (const std::string& name : NamesOf(option)) words.push_back(name);
  }
  return words;
}

std::string BashScript(const Command& root) {
  std::string words;   // path -> what can come next
  std::string values;  // path and option -> its choices
  std::string takers;  // options that take a value
  std::string files;   // paths whose arguments are files
  Visit(root, "", [&](const Command& command, const std::string& path) {
    absl::StrAppend(&words, "    '", path, "') words='", absl::StrJoin(Words(command, path), " "),
                    "' ;;\n");
    if (TakesFiles(command)) absl::StrAppend(&files, files.empty() ? "'" : "|'", path, "'");
    for (const Option& option : AllOptions(command, path)) {
      if (option.value.empty()) continue;
      for (const std::string& name : NamesOf(option)) {
        const std::string key = absl::StrCat("'", path, " ", name, "'");
        absl::StrAppend(&takers, takers.empty() ? "" : "|", key);
        if (option.choices.empty()) continue;
        absl::StrAppend(&values, "    ", key, ") values='", absl::StrJoin(option.choices, " "),
                        "' ;;\n");
      }
    }
  });
  return absl::StrReplaceAll(
      R"bash(# Completion of sinkforge for bash (zsh through bashcompinit).
_sinkforge() {
  local current="${COMP_WORDS[COMP_CWORD]}" path='' words='' values='' word='' i skip=0
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${COMP_WORDS[i]}"
    if ((skip)); then skip=0; continue; fi
    case "$path $word" in
      @TAKERS@) skip=1; continue ;;
    esac
    case " $(_sinkforge_words "$path") " in
      *" $word "*) [[ "$word" == -* ]] || path="${path:+$path }$word" ;;
    esac
  done
  COMPREPLY=()
  if ((skip)); then
    case "$path $word" in
@VALUES@    esac
    COMPREPLY=($(compgen -W "$values" -- "$current"))
    return
  fi
  COMPREPLY=($(compgen -W "$(_sinkforge_words "$path")" -- "$current"))
  case "$path" in
    @FILES@) [[ "$current" == -* ]] || COMPREPLY+=($(compgen -f -- "$current")) ;;
  esac
}
_sinkforge_words() {
  local words=''
  case "$1" in
@WORDS@  esac
  printf '%s' "$words"
}
complete -o filenames -F _sinkforge sinkforge
)bash",
      {{"@TAKERS@", takers}, {"@VALUES@", values}, {"@FILES@", files}, {"@WORDS@", words}});
}

std::string ZshScript(const Command& root) {
  return absl::StrCat("#compdef sinkforge\nautoload -U +X bashcompinit && bashcompinit\n",
                      BashScript(root));
}

std::string FishQuote(const std::string& text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"'", "\\'"}}), "'");
}

std::string FishScript(const Command& root) {
  std::string script =
      "# Completion of sinkforge for fish.\n"
      "# True where the words so far that are no options begin with exactly these.\n"
      "function __sinkforge_at\n"
      "  set -l words (string match -v -- '-*' (commandline -opc))\n"
      "  test (count $words) -gt (count $argv)\n"
      "  and test \"$words[2..(math (count $argv) + 1)]\" = \"$argv\"\n"
      "end\n"
      "complete -c sinkforge -f\n";
  Visit(root, "", [&](const Command& command, const std::string& path) {
    const std::string here =
        path.empty() ? "__fish_use_subcommand" : absl::StrCat("__sinkforge_at ", path);
    auto add = [&](const std::string& rest, const std::string& help) {
      absl::StrAppend(&script, "complete -c sinkforge -n '", here, "' ", rest);
      if (!help.empty()) absl::StrAppend(&script, " -d ", FishQuote(help));
      script += "\n";
    };
    for (const Command& child : command.commands)
      add(absl::StrCat("-a ", child.name), child.summary);
    for (const Argument& argument : command.arguments) {
      if (!argument.choices.empty()) {
        add(absl::StrCat("-a '", absl::StrJoin(argument.choices, " "), "'"), argument.help);
      }
    }
    if (TakesFiles(command)) add("-F", "");
    for (const Option& option : AllOptions(command, path)) {
      std::string flags;
      for (const std::string& name : NamesOf(option)) {
        const bool is_long = name.rfind("--", 0) == 0;
        absl::StrAppend(&flags, flags.empty() ? "" : " ", is_long ? "-l " : "-s ",
                        name.substr(is_long ? 2 : 1));
      }
      if (!option.value.empty()) flags += " -r";
      if (!option.choices.empty()) {
        absl::StrAppend(&flags, " -f -a '", absl::StrJoin(option.choices, " "), "'");
      }
      add(flags, option.help);
    }
  });
  return script;
}

}  // namespace

std::string CompletionScript(const Command& root, const std::string& shell) {
  if (shell == "fish") return FishScript(root);
  return shell == "zsh" ? ZshScript(root) : BashScript(root);
}

}  // namespace sinkforge::client
