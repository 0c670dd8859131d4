// The grid of a sweep.
#include "client/sweep_grid.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/exit_code.h"
#include "proto/jobspec/job_file.h"
#include "proto/jobspec/validate.h"

namespace sinkforge::client {
namespace {

// At commas outside of brackets.
std::vector<std::string> SplitValues(const std::string& text) {
  std::vector<std::string> values(1);
  int depth = 0;
  for (char c : text) {
    depth += c == '[' ? 1 : c == ']' ? -1 : 0;
    if (c == ',' && depth == 0) {
      values.emplace_back();
    } else {
      values.back() += c;
    }
  }
  for (std::string& value : values) absl::StripAsciiWhitespace(&value);
  return values;
}

struct Axis {
  std::string key;
  std::vector<std::string> values;
  std::string name_prefix;  // of the value in a job's name
};

absl::StatusOr<Axis> ParseAxis(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    return UsageError(absl::StrCat("--grid ", text,
                                   ": expects key=value,value, such as head_balance.loss=none,cv"));
  }
  if (text.substr(0, equals) == "name") {
    return UsageError("--grid name: the jobs of a sweep are named after what they differ in");
  }
  Axis axis{text.substr(0, equals), SplitValues(text.substr(equals + 1)), ""};
  for (const std::string& value : axis.values) {
    if (value.empty()) return UsageError(absl::StrCat("--grid ", text, ": a value is empty"));
    if (std::count(axis.values.begin(), axis.values.end(), value) > 1) {
      return UsageError(absl::StrCat("--grid ", text, ": `", value, "` is there twice"));
    }
  }
  return axis;
}

}  // namespace

absl::StatusOr<std::vector<SweepPoint>> ExpandGrid(const std::vector<std::string>& grid,
                                                   const std::string& seeds) {
  std::vector<Axis> axes;
  for (const std::string& text : grid) {
    auto axis = ParseAxis(text);
    if (!axis.ok()) return axis.status();
    axes.push_back(*std::move(axis));
  }
  if (!seeds.empty()) {
    auto axis = ParseAxis(absl::StrCat("train.seed=", seeds));
    if (!axis.ok()) {
      return UsageError(
          absl::StrCat("--seeds ", seeds, ": expects seeds such as 1,2,3, each once"));
    }
    axis->name_prefix = std::string("s");
    axes.push_back(*std::move(axis));
  }
  if (axes.empty()) {
    return UsageError("a sweep needs --grid key=v1,v2 or --seeds 1,2,3; for one job use submit");
  }
  std::set<std::string> keys;
  for (const Axis& axis : axes) {
    if (keys.insert(axis.key).second) continue;
    return UsageError(absl::StrCat(axis.key, " is there twice; give all its values in one --grid",
                                   seeds.empty() ? "" : ", or in --seeds alone"));
  }
  std::vector<SweepPoint> points(1);
  for (const Axis& axis : axes) {
    if (points.size() * axis.values.size() > kSweepJobsMax) {
      return UsageError(absl::StrCat("the grid has more than ", kSweepJobsMax, " jobs"));
    }
    std::vector<SweepPoint> longer;
    for (const SweepPoint& point : points) {
      for (const std::string& value : axis.values) {
        SweepPoint next = point;
        next.assignments.push_back(absl::StrCat(axis.key, "=", value));
        absl::StrAppend(&next.suffix, next.suffix.empty() ? "" : "-", axis.name_prefix, value);
        longer.push_back(std::move(next));
      }
    }
    points = std::move(longer);
  }
  return points;
}

std::string SweepJobName(const std::string& base, const std::string& suffix) {
  std::string name;
  for (char c : absl::AsciiStrToLower(absl::StrCat(base, "-", suffix))) {
    const bool valid = absl::ascii_isalnum(static_cast<unsigned char>(c));
    // One dash for a run of anything else.
    if (valid || (!name.empty() && name.back() != '-')) name += valid ? c : '-';
  }
  name.resize(std::min<size_t>(name.size(), jobspec::kNameLengthMax));
  while (!name.empty() && name.back() == '-') name.pop_back();
  return name;
}

std::vector<std::pair<std::string, std::string>> FlattenJob(const v1::JobSpec& spec) {
  std::vector<std::pair<std::string, std::string>> flat;
  std::vector<std::string> above;  // the keys that the current line is below
  for (const auto& piece : absl::StrSplit(jobspec::FormatJobFile(spec), '\n', absl::SkipEmpty())) {
    const std::string line(piece);
    const size_t indent = line.find_first_not_of(' ');
    const size_t colon = line.find(':');
    if (indent == std::string::npos || colon == std::string::npos) continue;
    above.resize(std::min(above.size(), indent / 2));
    const std::string key = line.substr(indent, colon - indent);
    if (colon + 1 == line.size()) {
      above.push_back(key);
      continue;
    }
    std::string path;
    for (const std::string& part : above) absl::StrAppend(&path, part, ".");
    flat.emplace_back(path + key, line.substr(colon + 2));
  }
  return flat;
}

std::vector<std::string> VaryingKeys(const std::vector<v1::JobSpec>& specs) {
  std::vector<std::string> order;
  std::map<std::string, std::map<size_t, std::string>> values;  // by key and job
  for (size_t i = 0; i < specs.size(); ++i) {
    for (auto& [key, value] : FlattenJob(specs[i])) {
      if (key == "name") continue;
      if (!values.contains(key)) order.push_back(key);
      values[key].emplace(i, value);
    }
  }
  std::map<std::string, int> changes;
  std::vector<std::string> varying;
  for (const std::string& key : order) {
    const auto& of_key = values[key];
    const auto value = [&](size_t i) { return of_key.contains(i) ? of_key.at(i) : ""; };
    for (size_t i = 1; i < specs.size(); ++i) changes[key] += value(i) == value(i - 1) ? 0 : 1;
    if (changes[key] > 0) varying.push_back(key);
  }
  std::stable_sort(varying.begin(), varying.end(),
                   [&](const auto& a, const auto& b) { return changes[a] < changes[b]; });
  return varying;
}

}  // namespace sinkforge::client
