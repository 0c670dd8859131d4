// Completion scripts. All three follow the words from the left to find the command that is being
// typed: they skip the values of options, and go into a subcommand where one is named.
#include "client/completion_script.h"

#include <functional>
#include <iterator>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "client/common_options.h"
#include "client/job_input.h"

namespace sinkforge::client {
namespace {

// Of the metric history; layer_cv and importance stand for all layers and heads.
constexpr const char* kSeries[] = {"loss",
                                   "aux_loss",
                                   "imbalance",
                                   "learning_rate_scale",
                                   "gradient_norm",
                                   "step_seconds",
                                   "tokens_per_second",
                                   "tokens_total",
                                   "validation_loss",
                                   "validation_bits_per_byte",
                                   "memory_bytes",
                                   "importance_min",
                                   "importance_max",
                                   "layer_cv",
                                   "importance"};

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

// Every command calls an argument so where it is a job's id ("JOB") or a worker ("WORKER").
bool Takes(const Command& command, const std::string& argument_name) {
  for (const Argument& argument : command.arguments) {
    if (argument.name == argument_name) return true;
  }
  return false;
}

// What may be given, or where that is anything, what is mostly meant. Every command calls a value
// so where it starts with a key of the job file.
std::vector<std::string> OfferedValues(const Option& option) {
  if (!option.choices.empty()) return option.choices;
  if (option.value == "KEY=VALUE" || option.value == "KEY=V1,V2") return JobKeys();
  if (option.names == "--series") return {std::begin(kSeries), std::end(kSeries)};
  return {};
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
  std::vector<std::string> worker_paths;   // and workers
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
    if (Takes(command, "JOB")) keys.job_paths.push_back(SingleQuote(path));
    if (Takes(command, "WORKER")) keys.worker_paths.push_back(SingleQuote(path));
  });
  return keys;
}

// One line a key, for bash and zsh: "    'PATH OPTION') NAME='a b c' ;;".
std::string ChoiceCases(const Command& root, const std::string& name) {
  std::string cases;
  Visit(root, "", [&](const Command& command, const std::string& path) {
    for (const Option& option : AllOptions(command, path)) {
      if (OfferedValues(option).empty()) continue;
      for (const std::string& option_name : NamesOf(option)) {
        absl::StrAppend(&cases, "    ", SingleQuote(absl::StrCat(path, " ", option_name)), ") ",
                        name, "='", absl::StrJoin(OfferedValues(option), " "), "' ;;\n");
      }
    }
  });
  return cases;
}

// A script of bash or zsh with what both look up.
std::string FillKeys(const char* script, const Command& root) {
  const Keys keys = KeysOf(root);
  return absl::StrReplaceAll(script, {{"@VALUE_OPTIONS@", absl::StrJoin(keys.value_options, "|")},
                                      {"@COMMANDS@", absl::StrJoin(keys.commands, "|")},
                                      {"@CHOICES@", ChoiceCases(root, "values")},
                                      {"@FILES@", absl::StrJoin(keys.file_paths, "|")},
                                      {"@JOBS@", absl::StrJoin(keys.job_paths, "|")},
                                      {"@WORKERS@", absl::StrJoin(keys.worker_paths, "|")}});
}

// Between @ what the functions below fill in.
constexpr char kBashScript[] =
    R"bash(# Completion of sinkforge for bash.
_sinkforge() {
  local current="${COMP_WORDS[COMP_CWORD]}" path='' words='' values='' word='' option='' given=''
  local i skip=0
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${COMP_WORDS[i]}"
    # Of "--state=queued" bash makes three words.
    if ((skip)); then [[ "$word" == = ]] || skip=0; continue; fi
    case "$path $word" in
      @VALUE_OPTIONS@) skip=1 option="$word" ;;
      @COMMANDS@) path="${path:+$path }$word" ;;
    esac
  done
  COMPREPLY=()
  if ((skip)); then
    [[ "$current" != = ]] || current=''
  elif [[ "$current" == --*=* ]]; then  # One word, where COMP_WORDBREAKS has no "=".
    option="${current%%=*}" given="${current%%=*}="
    case "$path $option" in
      @VALUE_OPTIONS@) skip=1 current="${current#*=}" ;;
    esac
  fi
  if ((skip)); then
    case "$path $option" in
@CHOICES@      *) COMPREPLY=($(compgen -f -- "$current")); return ;;
    esac
    COMPREPLY=($(compgen -W "$values" -- "$current"))
    [[ "${COMPREPLY[*]}" != *= ]] || compopt -o nospace +o filenames 2>/dev/null
    COMPREPLY=("${COMPREPLY[@]/#/$given}")
    return
  fi
  case "$path" in
@WORDS@  esac
  if [[ "$current" != -* ]]; then
    case "$path" in
      @JOBS@) words="$words $(_sinkforge_names list)" ;;
      @WORKERS@) words="$words $(_sinkforge_names workers)" ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  case "$path" in
    @FILES@) [[ "$current" == -* ]] || COMPREPLY+=($(compgen -f -- "$current")) ;;
  esac
}
_sinkforge_names() {
  sinkforge "$1" --retry-for 0.3 2>/dev/null | tail -n +2 | cut -d ' ' -f 1
}
complete -o filenames -F _sinkforge sinkforge
)bash";

std::string BashScript(const Command& root) {
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
  return absl::StrReplaceAll(FillKeys(kBashScript, root), {{"@WORDS@", words}});
}

// "name:what it does", as zsh's _describe takes it.
std::string Described(const std::string& name, const std::string& help) {
  return SingleQuote(absl::StrCat(absl::StrReplaceAll(name, {{":", "\\:"}}), ":", help));
}

constexpr char kZshScript[] =
    R"zsh(#compdef sinkforge
# Completion of sinkforge for zsh: in a folder of $fpath as _sinkforge, or sourced.
_sinkforge() {
  local at='' word='' option='' values='' i skip=0
  local -a next options names
  for ((i = 2; i < CURRENT; i++)); do
    word="${words[i]}"
    if ((skip)); then skip=0; continue; fi
    case "$at $word" in
      @VALUE_OPTIONS@) skip=1 option="$word" ;;
      @COMMANDS@) at="${at:+$at }$word" ;;
    esac
  done
  if ((!skip)) && [[ "$PREFIX" == --*=* ]]; then
    option="${PREFIX%%=*}"
    case "$at $option" in
      @VALUE_OPTIONS@) skip=1; compset -P '*=' ;;
    esac
  fi
  if ((skip)); then
    case "$at $option" in
@CHOICES@      *) _files; return ;;
    esac
    if [[ "$values" == *= ]]; then
      compadd -S '' -- ${=values}
    else
      compadd -- ${=values}
    fi
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
      names=(${(f)"$(_sinkforge_names list)"})
      ((${#names})) && compadd -X 'job' -- $names ;;
    @WORKERS@)
      names=(${(f)"$(_sinkforge_names workers)"})
      ((${#names})) && compadd -X 'worker' -- $names ;;
    @FILES@) _files ;;
  esac
  ((${#next})) && _describe command next
  return 0
}
_sinkforge_names() {
  sinkforge "$1" --retry-for 0.3 2>/dev/null | tail -n +2 | cut -d ' ' -f 1
}
if [[ "${funcstack[1]}" == _sinkforge ]]; then
  _sinkforge "$@"
else
  compdef _sinkforge sinkforge
fi
)zsh";

std::string ZshScript(const Command& root) {
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
  return absl::StrReplaceAll(FillKeys(kZshScript, root), {{"@LISTS@", lists}});
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
  if (!OfferedValues(option).empty()) {
    absl::StrAppend(&flags, " -f -a '", absl::StrJoin(OfferedValues(option), " "), "'");
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
  if (Takes(command, "JOB")) add("-a '(__sinkforge_names list)'", "job");
  if (Takes(command, "WORKER")) add("-a '(__sinkforge_names workers)'", "worker");
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
function __sinkforge_names
    sinkforge $argv --retry-for 0.3 2>/dev/null | tail -n +2 | cut -d ' ' -f 1
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
