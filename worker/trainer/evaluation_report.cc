// Tables of aligned columns, and one JSON document.
#include "worker/trainer/evaluation_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>

#include "proto/jobspec/job_file.h"
#include "tokenizer/unicode.h"

namespace sinkforge::trainer {

namespace {

using nlohmann::ordered_json;

// More would make lines that no terminal shows; JSON has them all.
constexpr int64_t kHeadsInTableMax = 16;

using Row = std::vector<std::string>;

template <typename... Values>
std::string Format(const char* format, Values... values) {
  char text[128];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

size_t ColumnsOf(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(),
                                           [](char c) { return !tokenizer::IsContinuation(c); }));
}

// A name of a file must not speak to the terminal.
std::string Printable(std::string text) {
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
  std::replace_if(text.begin(), text.end(), is_control, '?');
  return text;
}

// The first column is to the left, the others to the right; an empty cell is no column's widest.
std::string Align(const std::vector<Row>& rows) {
  std::vector<size_t> widths(rows.front().size());
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], ColumnsOf(row[i]));
  }
  std::string text;
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths[i] - ColumnsOf(row[i]), ' ');
      text += i == 0 ? row[i] + space : "  " + space + row[i];
    }
    text += '\n';
  }
  return text;
}

std::string AttentionName(const ExportedModel& model) {
  return jobspec::ShortEnumName(*v1::AttentionVariant_descriptor(), model.spec.model().attention());
}

std::string Heading(const EvaluationReport& report) {
  const ExportedModel& model = *report.model;
  std::string text;
  if (!model.job_id.empty()) text = model.job_id;
  if (model.step) text += (text.empty() ? "step " : ", step ") + std::to_string(*model.step);
  if (!text.empty()) text += ": ";
  text += AttentionName(model) + " attention, " + std::to_string(model.config.layers) +
          " layers of " + std::to_string(model.config.heads) + " heads; rows of at most " +
          std::to_string(report.context) + " tokens, " + report.precision;
  return Printable(text) + "\n";
}

// One line a layer.
std::string HeadTable(const std::string& name, const EvaluationReport& report,
                      const kernels::HeadBalance& balance) {
  const int64_t heads = report.model->config.heads;
  const bool lists_heads = heads <= kHeadsInTableMax;
  std::vector<Row> rows = {{"layer", "CV", "smallest", "head", "largest", "head"}};
  if (lists_heads) rows[0].emplace_back("all heads");
  for (int64_t layer = 0; layer < report.model->config.layers; ++layer) {
    const auto begin = balance.importance.begin() + layer * heads;
    const auto [least, most] = std::minmax_element(begin, begin + heads);
    rows.push_back({std::to_string(layer),
                    Format("%.4f", balance.layer_cv[static_cast<size_t>(layer)]),
                    Format("%.4f", *least), std::to_string(least - begin), Format("%.4f", *most),
                    std::to_string(most - begin)});
    std::string all;
    for (auto head = begin; lists_heads && head != begin + heads; ++head) {
      all += Format(head == begin ? "%.2f" : " %.2f", *head);
    }
    if (lists_heads) rows.back().push_back(all);
  }
  return std::string("\nimportance on ").append(Printable(name)) + ", imbalance " +
         Format("%.4f", balance.imbalance) + "\n" + Align(rows);
}

std::string Percent(const Accuracy& accuracy) {
  const double error = accuracy.standard_error();
  const std::string share = Format("%.2f", 100 * accuracy.share());
  return std::isnan(error) ? share : share + Format(" ± %.2f", 100 * error);
}

std::string Notes(const EvaluatedTask& task, int64_t context) {
  std::string notes;
  const auto add = [&](int64_t items, const std::string& what) {
    if (items == 0) return;
    notes += "note: ";
    notes += Printable(task.name);
    notes += Format(": %lld of %lld items", static_cast<long long>(items),
                    static_cast<long long>(task.sum.items));
    notes += what;
  };
  const std::string longer =
      Format(" longer than the context of %lld tokens: ", static_cast<long long>(context));
  add(task.items_cut, " are" + longer + "the beginning of the query is left out\n");
  add(task.items_windows,
      " have a choice" + longer + "it is scored in parts, each after half a context at least\n");
  return notes;
}

std::string TextTable(const EvaluationReport& report) {
  std::vector<Row> rows = {
      {"text", "tokens", "bytes", "bits per byte", "nats per token", "imbalance"}};
  for (const EvaluatedText& text : report.texts) {
    const TextEvaluation& result = text.result;
    const auto& bits = result.loss.bits_per_byte;
    rows.push_back({Printable(text.name), std::to_string(result.loss.tokens),
                    bits ? std::to_string(result.bytes) : "-", bits ? Format("%.4f", *bits) : "-",
                    Format("%.4f", result.loss.loss), Format("%.4f", result.balance.imbalance)});
  }
  return std::string("\n").append(Align(rows));
}

std::string TaskTable(const EvaluationReport& report) {
  std::vector<Row> rows = {
      {"task", "items", "guessing %", "accuracy %", "by bytes %", "imbalance"}};
  std::string notes;
  for (const EvaluatedTask& task : report.tasks) {
    rows.push_back({Printable(task.name), std::to_string(task.sum.items),
                    Format("%.2f", 100 * task.guessing), Percent(task.sum), Percent(task.per_byte),
                    Format("%.4f", task.balance.imbalance)});
    notes += Notes(task, report.context);
  }
  return std::string("\n").append(Align(rows)).append(notes);
}

// JSON has no number for what is not finite.
ordered_json NumberOrNull(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json();
}

void AddHeads(const ModelConfig& config, const kernels::HeadBalance& balance, ordered_json* json) {
  (*json)["imbalance"] = balance.imbalance;
  (*json)["layer_cv"] = balance.layer_cv;
  ordered_json layers = ordered_json::array();
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const auto begin = balance.importance.begin() + layer * config.heads;
    layers.push_back(std::vector<double>(begin, begin + config.heads));
  }
  (*json)["importance"] = layers;
}

ordered_json TextJson(const ModelConfig& config, const EvaluatedText& text) {
  const Evaluation& loss = text.result.loss;
  ordered_json json;
  json["file"] = text.name;
  json["tokens"] = loss.tokens;
  json["bytes"] = loss.bits_per_byte ? ordered_json(text.result.bytes) : ordered_json();
  json["loss"] = loss.loss;
  json["bits_per_byte"] = loss.bits_per_byte ? ordered_json(*loss.bits_per_byte) : ordered_json();
  AddHeads(config, text.result.balance, &json);
  return json;
}

ordered_json TaskJson(const ModelConfig& config, const EvaluatedTask& task) {
  ordered_json json;
  json["file"] = task.name;
  json["items"] = task.sum.items;
  json["options"] = task.options;
  json["guessing"] = task.guessing;
  json["accuracy"] = task.sum.share();
  json["accuracy_standard_error"] = NumberOrNull(task.sum.standard_error());
  json["accuracy_per_byte"] = task.per_byte.share();
  json["accuracy_per_byte_standard_error"] = NumberOrNull(task.per_byte.standard_error());
  json["items_cut"] = task.items_cut;
  json["items_in_windows"] = task.items_windows;
  json["positions"] = task.positions;
  AddHeads(config, task.balance, &json);
  return json;
}

}  // namespace

double Accuracy::standard_error() const {
  if (items < 2) return std::numeric_limits<double>::quiet_NaN();
  return std::sqrt(share() * (1 - share()) / static_cast<double>(items - 1));
}

std::string ToTable(const EvaluationReport& report) {
  std::string text = Heading(report);
  if (!report.texts.empty()) text += TextTable(report);
  if (!report.tasks.empty()) text += TaskTable(report);
  for (const EvaluatedText& one : report.texts) {
    text += HeadTable(one.name, report, one.result.balance);
  }
  for (const EvaluatedTask& one : report.tasks) text += HeadTable(one.name, report, one.balance);
  return text;
}

std::string ToJson(const EvaluationReport& report) {
  const ExportedModel& model = *report.model;
  ordered_json json;
  json["job"] = model.job_id.empty() ? ordered_json() : ordered_json(model.job_id);
  json["step"] = model.step ? ordered_json(*model.step) : ordered_json();
  json["attention"] = AttentionName(model);
  json["layers"] = model.config.layers;
  json["heads"] = model.config.heads;
  json["tokenizer"] = report.tokenizer;
  json["context"] = report.context;
  json["precision"] = report.precision;
  json["threads"] = report.threads;
  json["texts"] = ordered_json::array();
  for (const EvaluatedText& text : report.texts) {
    json["texts"].push_back(TextJson(model.config, text));
  }
  json["tasks"] = ordered_json::array();
  for (const EvaluatedTask& task : report.tasks) {
    json["tasks"].push_back(TaskJson(model.config, task));
  }
  // Names of files need not be UTF-8: bytes that are not are replaced.
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace sinkforge::trainer
