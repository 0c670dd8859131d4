// Completion scripts. All three follow the words from the left to find the command that is being
// typed: they skip the values of options, and go into a subcommand where one is named.
#include "client/completion_script.h"

#include <functional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "client/common_options.h"

namespace sinkforge::client {
namespace {

std::vector<std::string> NamesOf(const Option& option) { return absl::StrSplit(option.names, ','); }

// A command's own options and those that cli.cc gives it: the common ones to the root and to every
// command that runs, --help to groups as well, --version to the
// root. `path`: empty for the root.
std::vector<Option> AllOptions(const Command& command, const std::string& path) {
  static GlobalOptions unused;
  std::vector<Option> options = command.options;
  if (command.run != nullptr || path.empty()) {
    const std::vector<Option> common = CommonOptions(command.formats, &unused);
    options.insert(options.end(), common.begin(), common.end());
  }
  options.push_back({"-h,--help", "", "Print help", &unused.coordinator});
  if (path.empty())
    options.push_back({"-V,--version", "", "Print the version", &unused.coordinator});
  return options;
}

bool TakesFiles(const Command& command) {
  for (const Argument& argument : command.arguments) {
    if (argument.completion == Argument::Completion::kFiles) return true;
  }
  return false;
}

// Every command calls the argument so where it is a job's id.
bool TakesJobs(const Command& command) {
  for (const Argument& argument : command.arguments) {
    if (argument.name == "JOB") return true;
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

std::string SingleQuote(const std::string& text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

// What all three scripts look up, each as shell patterns in single quotes. The key of a command or
// an option is its parent's path, a space, and its name.
struct Keys {
  std::vector<std::string> commands;       // every subcommand
  std::vector<std::string> value_options;  // every option that takes a value
  std::vector<std::string> file_paths;     // commands whose arguments are files
  std::vector<std::string> job_paths;      // commands whose arguments are jobs
};

Keys KeysOf(const Command& root) {
  Keys keys;
  Visit(root, "", [&](const Command& command, const std::string& path) {
    for (const Command& child : command.commands) {
      keys.commands.push_back(SingleQuote(absl::StrCat(path, " ", child.name)));
    }
    for (const Option& option : AllOptions(command, path)) {
      if (option.value.empty()) continue;
      for (const std::string& name : NamesOf(option)) {
        keys.value_options.push_back(SingleQuote(absl::StrCat(path, " ", name)));
      }
    }
    if (TakesFiles(command)) keys.file_paths.push_back(SingleQuote(path));
    if (TakesJobs(command)) keys.job_paths.push_back(SingleQuote(path));
  });
  return keys;
}

// One line a key, for bash and zsh: "    'PATH OPTION') NAME='a b c' ;;".
std::string ChoiceCases(const Command& root, const std::string& name) {
  std::string cases;
  Visit(root, "", [&](const Command& command, const std::string& path) {
    for (const Option& option : AllOptions(command, path)) {
      if (option.choices.empty()) continue;
      for (const std::string& option_name : NamesOf(option)) {
        absl::StrAppend(&cases, "    ", SingleQuote(absl::StrCat(path, " ", option_name)), ") ",
                        name, "='", absl::StrJoin(option.choices, " "), "' ;;\n");
      }
    }
  });
  return cases;
}

std::string BashScript(const Command& root) {
  const Keys keys = KeysOf(root);
  std::string words;  // path -> what can come next
  Visit(root, "", [&](const Command& command, const std::string& path) {
    std::vector<std::string> next;
    for (const Command& child : command.commands) next.push_back(child.name);
    for (const Argument& argument : command.arguments) {
      next.insert(next.end(), argument.choices.begin(), argument.choices.end());
    }
    for (const Option& option : AllOptions(command, path)) {
      for (const std::string& name : NamesOf(option)) next.push_back(name);
    }
    absl::StrAppend(&words, "    ", SingleQuote(path), ") words='", absl::StrJoin(next, " "),
                    "' ;;\n");
  });
  return absl::StrReplaceAll(
      R"bash(# Completion of sinkforge for bash.
_sinkforge() {
  local current="${COMP_WORDS[COMP_CWORD]}" path='' words='' values='' word='' i skip=0
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${COMP_WORDS[i]}"
    if ((skip)); then skip=0; continue; fi
    case "$path $word" in
      @VALUE_OPTIONS@) skip=1 ;;
      @COMMANDS@) path="${path:+$path }$word" ;;
    esac
  done
  COMPREPLY=()
  if ((skip)); then
    case "$path $word" in
@CHOICES@      *) COMPREPLY=($(compgen -f -- "$current")); return ;;
    esac
    COMPREPLY=($(compgen -W "$values" -- "$current"))
    return
  fi
  case "$path" in
@WORDS@  esac
  if [[ "$current" != -* ]]; then
    case "$path" in
      @JOBS@) words="$words $(_sinkforge_jobs)" ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  case "$path" in
    @FILES@) [[ "$current" == -* ]] || COMPREPLY+=($(compgen -f -- "$current")) ;;
  esac
}
_sinkforge_jobs() {
  sinkforge list --retry-for 0.3 2>/dev/null | tail -n +2 | cut -d ' ' -f 1
}
complete -o filenames -F _sinkforge sinkforge
)bash",
      {{"@VALUE_OPTIONS@", absl::StrJoin(keys.value_options, "|")},
       {"@COMMANDS@", absl::StrJoin(keys.commands, "|")},
       {"@CHOICES@", ChoiceCases(root, "values")},
       {"@FILES@", absl::StrJoin(keys.file_paths, "|")},
       {"@JOBS@", absl::StrJoin(keys.job_paths, "|")},
       {"@WORDS@", words}});
}

// "name:what it does", as zsh's _describe takes it.
std::string Described(const std::string& name, const std::string& help) {
  return SingleQuote(absl::StrCat(absl::StrReplaceAll(name, {{":", "\\:"}}), ":", help));
}

std::string ZshScript(const Command& root) {
  const Keys keys = KeysOf(root);
  std::string lists;  // path -> commands, choices of arguments, options
  Visit(root, "", [&](const Command& command, const std::string& path) {
    std::vector<std::string> next;
    for (const Command& child : command.commands) {
      next.push_back(Described(child.name, child.summary));
    }
    for (const Argument& argument : command.arguments) {
      for (const std::string& choice : argument.choices) {
        next.push_back(Described(choice, argument.help));
      }
    }
    std::vector<std::string> options;
    for (const Option& option : AllOptions(command, path)) {
      for (const std::string& name : NamesOf(option)) {
        options.push_back(Described(name, option.help));
      }
    }
    absl::StrAppend(&lists, "    ", SingleQuote(path), ")\n      next=(",
                    absl::StrJoin(next, "\n        "), ")\n      options=(",
                    absl::StrJoin(options, "\n        "), ") ;;\n");
  });
  return absl::StrReplaceAll(
      R"zsh(#compdef sinkforge
# Completion of sinkforge for zsh: in a folder of $fpath as _sinkforge, or sourced.
_sinkforge() {
  local at='' word='' values='' i skip=0
  local -a next options jobs
  for ((i = 2; i < CURRENT; i++)); do
    word="${words[i]}"
    if ((skip)); then skip=0; continue; fi
    case "$at $word" in
      @VALUE_OPTIONS@) skip=1 ;;
      @COMMANDS@) at="${at:+$at }$word" ;;
    esac
  done
  if ((skip)); then
    case "$at $word" in
@CHOICES@      *) _files; return ;;
    esac
    compadd -- ${=values}
    return
  fi
  case "$at" in
@LISTS@  esac
  if [[ "$PREFIX" == -* ]]; then
    _describe -o option options
    return
  fi
  case "$at" in
    @JOBS@)
      jobs=(${(f)"$(_sinkforge_jobs)"})
      ((${#jobs})) && compadd -X 'job' -- $jobs ;;
    @FILES@) _files ;;
  esac
  ((${#next})) && _describe command next
  return 0
}
_sinkforge_jobs() {
  sinkforge list --retry-for 0.3 2>/dev/null | tail -n +2 | cut -d ' ' -f 1
}
if [[ "${funcstack[1]}" == _sinkforge ]]; then
  _sinkforge "$@"
else
  compdef _sinkforge sinkforge
fi
)zsh",
      {{"@VALUE_OPTIONS@", absl::StrJoin(keys.value_options, "|")},
       {"@COMMANDS@", absl::StrJoin(keys.commands, "|")},
       {"@CHOICES@", ChoiceCases(root, "values")},
       {"@FILES@", absl::StrJoin(keys.file_paths, "|")},
       {"@JOBS@", absl::StrJoin(keys.job_paths, "|")},
       {"@LISTS@", lists}});
}

std::string FishQuote(const std::string& text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"'", "\\'"}}), "'");
}

std::string FishFlags(const Option& option) {
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
  return flags;
}

// The lines for one command.
std::string FishLines(const Command& command, const std::string& path) {
  const std::string here = absl::StrCat("__sinkforge_at ", FishQuote(path));
  std::string lines;
  auto add = [&](const std::string& rest, const std::string& help) {
    absl::StrAppend(&lines, "complete -c sinkforge -n ", FishQuote(here), " ", rest);
    if (!help.empty()) absl::StrAppend(&lines, " -d ", FishQuote(help));
    lines += "\n";
  };
  for (const Command& child : command.commands) add(absl::StrCat("-a ", child.name), child.summary);
  for (const Argument& argument : command.arguments) {
    if (argument.choices.empty()) continue;
    add(absl::StrCat("-a '", absl::StrJoin(argument.choices, " "), "'"), argument.help);
  }
  if (TakesFiles(command)) add("-F", "");
  if (TakesJobs(command)) add("-a '(__sinkforge_jobs)'", "job");
  for (const Option& option : AllOptions(command, path)) add(FishFlags(option), option.help);
  return lines;
}

std::string FishScript(const Command& root) {
  const Keys keys = KeysOf(root);
  std::string script = absl::StrReplaceAll(
      R"fish(# Completion of sinkforge for fish.
# True where the command that is being typed is exactly this one.
function __sinkforge_at
    set -l at ''
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch "$at $word"
            case @VALUE_OPTIONS@
                set skip 1
            case @COMMANDS@
                set at (string trim -- "$at $word")
        end
    end
    test "$at" = "$argv"
end
function __sinkforge_jobs
    sinkforge list --retry-for 0.3 2>/dev/null | tail -n +2 | cut -d ' ' -f 1
end
complete -c sinkforge -f
)fish",
      {{"@VALUE_OPTIONS@", absl::StrJoin(keys.value_options, " ")},
       {"@COMMANDS@", absl::StrJoin(keys.commands, " ")}});
  Visit(root, "", [&](const Command& command, const std::string& path) {
    script += FishLines(command, path);
  });
  return script;
}

}  // namespace

std::string CompletionScript(const Command& root, const std::string& shell) {
  if (shell == "fish") return FishScript(root);
  return shell == "zsh" ? ZshScript(root) : BashScript(root);
}

}  // namespace sinkforge::client
