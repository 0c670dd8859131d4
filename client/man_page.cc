// Manual pages in the man macros, which man and every other reader of such pages know.
#include "client/man_page.h"

#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "client/common_options.h"
#include "client/exit_code.h"

namespace sinkforge::client {
namespace {

// Backslashes and leading dots are the macros' own; "-" must not become a typographic hyphen,
// which nobody could search for or paste into a shell.
std::string Escape(const std::string& text) {
  std::string escaped =
      absl::StrReplaceAll(text, {{"\\", "\\e"}, {"-", "\\-"}, {"'", "\\(aq"}, {"`", "\\(ga"}});
  if (!escaped.empty() && escaped.front() == '.') escaped.insert(0, "\\&");
  return absl::StrReplaceAll(escaped, {{"\n.", "\n\\&."}});
}

std::string Bold(const std::string& text) { return absl::StrCat("\\fB", Escape(text), "\\fR"); }
std::string Italic(const std::string& text) { return absl::StrCat("\\fI", Escape(text), "\\fR"); }

class Page {
 public:
  Page(std::string words, const std::string& summary, const std::string& version)
      : words_(std::move(words)) {
    const std::string name = absl::StrReplaceAll(words_, {{" ", "-"}});
    absl::StrAppend(&text_, ".TH ", absl::AsciiStrToUpper(Escape(name)), " 1 \"\" \"SinkForge ",
                    Escape(version), "\" \"User Commands\"\n.SH NAME\n", Escape(name), " \\- ",
                    Escape(summary), "\n");
  }

  const std::string& text() const { return text_; }
  const std::string& words() const { return words_; }

  void Section(const std::string& title) { absl::StrAppend(&text_, ".SH ", title, "\n"); }

  void Synopsis(const Command& command) {
    Section("SYNOPSIS");
    if (command.run == nullptr || words_ == command.name) {
      absl::StrAppend(&text_, Bold(words_), " ", Italic("COMMAND"), " [", Italic("OPTION"),
                      "]...\n");
      return;
    }
    absl::StrAppend(&text_, Bold(words_), " [", Italic("OPTION"), "]...");
    for (const Argument& argument : command.arguments) {
      const bool is_many = std::holds_alternative<std::vector<std::string>*>(argument.target);
      const std::string name = absl::StrCat(Italic(argument.name), is_many ? "..." : "");
      const bool is_required = argument.presence == Argument::Presence::kRequired;
      absl::StrAppend(&text_, " ", is_required ? name : absl::StrCat("[", name, "]"));
    }
    text_ += "\n";
  }

  void Item(const std::string& formatted_title, const std::string& body) {
    absl::StrAppend(&text_, ".TP\n", formatted_title, "\n", Escape(body), "\n");
  }

  void OptionItem(const Option& option) {
    std::vector<std::string> names;
    for (const std::string& name : std::vector<std::string>(absl::StrSplit(option.names, ','))) {
      names.push_back(Bold(name));
    }
    const std::string value = option.value.empty() ? "" : absl::StrCat(" ", Italic(option.value));
    Item(absl::StrCat(absl::StrJoin(names, ", "), value), option.help);
  }

  // As it is typed, without filling lines.
  void Literal(const std::string& text) {
    absl::StrAppend(&text_, ".nf\n", Escape(text), "\n.fi\n");
  }

  void SeeAlso(const std::vector<std::string>& pages) {
    std::vector<std::string> links;
    for (const std::string& page : pages) links.push_back(absl::StrCat(Bold(page), "(1)"));
    Section("SEE ALSO");
    absl::StrAppend(&text_, absl::StrJoin(links, ",\n"), "\n");
  }

 private:
  std::string words_;
  std::string text_;
};

std::string PageName(const std::string& words) { return absl::StrReplaceAll(words, {{" ", "-"}}); }

void AddOptions(const Command& command, bool is_root, Page* page) {
  GlobalOptions unused;
  std::vector<Option> options = command.options;
  if (command.run != nullptr || is_root) {
    const std::vector<Option> common = CommonOptions(command.formats, &unused);
    options.insert(options.end(), common.begin(), common.end());
  }
  page->Section("OPTIONS");
  for (const Option& option : options) page->OptionItem(option);
  page->Item(absl::StrCat(Bold("-h"), ", ", Bold("--help")), "Print help.");
  if (!is_root) return;
  page->Item(absl::StrCat(Bold("-V"), ", ", Bold("--version")), "Print the version.");
}

void AddPages(const Command& command, const std::string& parent, const std::string& version,
              std::map<std::string, std::string>* pages) {
  const bool is_root = parent.empty();
  Page page(is_root ? command.name : absl::StrCat(parent, " ", command.name), command.summary,
            version);
  page.Synopsis(command);
  std::vector<std::string> see_also;
  if (!is_root) see_also.push_back(PageName(parent));
  if (!command.commands.empty()) {
    page.Section("COMMANDS");
    for (const Command& child : command.commands) {
      const std::string words = absl::StrCat(page.words(), " ", child.name);
      page.Item(Bold(child.name), child.summary);
      see_also.push_back(PageName(words));
      AddPages(child, page.words(), version, pages);
    }
  }
  if (!command.arguments.empty()) {
    page.Section("ARGUMENTS");
    for (const Argument& argument : command.arguments) {
      page.Item(Italic(argument.name), argument.help);
    }
  }
  AddOptions(command, is_root, &page);
  if (!command.examples.empty()) {
    page.Section("EXAMPLES");
    page.Literal(command.examples);
  }
  if (is_root) {
    page.Section("\"EXIT STATUS\"");
    page.Literal(ExitCodeHelp());
  }
  page.SeeAlso(see_also);
  (*pages)[absl::StrCat(PageName(page.words()), ".1")] = page.text();
}

}  // namespace

std::map<std::string, std::string> ManPages(const Command& root, const std::string& version) {
  std::map<std::string, std::string> pages;
  AddPages(root, "", version, &pages);
  return pages;
}

}  // namespace sinkforge::client
