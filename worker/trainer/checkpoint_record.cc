// The JSON of a record, and what a resumed run compares.
#include "worker/trainer/checkpoint_record.h"

#include <fstream>
#include <nlohmann/json.hpp>

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;
using nlohmann::json;

namespace {

CheckpointRecord FromJson(const json& document) {
  CheckpointRecord record;
  const json& state = document.at("state");
  state.at("step").get_to(record.state.step);
  state.at("rows_consumed").get_to(record.state.rows_consumed);
  state.at("tokens_total").get_to(record.state.tokens_total);
  state.at("seed").get_to(record.state.seed);
  record.state.smooth_loss = state.value("smooth_loss", 0.0);  // added later, as the next one
  record.state.smoothed_steps = state.value("smoothed_steps", int64_t{0});
  document.at("loss").get_to(record.loss);
  document.at("imbalance").get_to(record.imbalance);
  for (const json& item : document.at("files")) {
    FileDigest file;
    item.at("name").get_to(file.name);
    item.at("bytes").get_to(file.bytes);
    item.at("xxh3").get_to(file.xxh3);
    record.files.push_back(std::move(file));
  }
  const json& environment = document.at("environment");
  environment.at("threads").get_to(record.environment.threads);
  environment.at("processor").get_to(record.environment.processor);
  environment.at("backend").get_to(record.environment.backend);
  environment.at("version").get_to(record.environment.version);
  environment.at("ranks").get_to(record.environment.ranks);
  record.environment.micro_batch = environment.value("micro_batch", int64_t{0});  // added later
  record.tokenizer = document.value("tokenizer", "");                             // added later
  return record;
}

void Compare(const std::string& name, const std::string& stored, const std::string& now,
             std::string* text) {
  if (stored == now) return;
  *text += (text->empty() ? "" : ", ") + name + " " + stored + " -> " + now;
}

Status Mismatch(const std::string& what) {
  return Status(StatusCode::kInvalidArgument,
                what +
                    "; a resumed job keeps its seed, batch and row length, so put the old value "
                    "back or start a new job");
}

}  // namespace

std::string ToJson(const CheckpointRecord& record) {
  json files = json::array();
  for (const FileDigest& file : record.files) {
    files.push_back({{"name", file.name}, {"bytes", file.bytes}, {"xxh3", file.xxh3}});
  }
  const json document = {{"schema_version", kRecordSchemaVersion},
                         {"state",
                          {{"step", record.state.step},
                           {"rows_consumed", record.state.rows_consumed},
                           {"tokens_total", record.state.tokens_total},
                           {"seed", record.state.seed},
                           {"smooth_loss", record.state.smooth_loss},
                           {"smoothed_steps", record.state.smoothed_steps}}},
                         {"loss", record.loss},
                         {"imbalance", record.imbalance},
                         {"files", files},
                         {"tokenizer", record.tokenizer},
                         {"environment",
                          {{"threads", record.environment.threads},
                           {"processor", record.environment.processor},
                           {"backend", record.environment.backend},
                           {"version", record.environment.version},
                           {"ranks", record.environment.ranks},
                           {"micro_batch", record.environment.micro_batch}}}};
  // File names need not be UTF-8.
  return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<CheckpointRecord> ParseRecord(const std::string& text) {
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object() || !document.contains("schema_version") ||
      !document["schema_version"].is_number_integer()) {
    return Status(StatusCode::kDataLoss, "the checkpoint's state is not a JSON document");
  }
  if (document["schema_version"].get<int64_t>() > kRecordSchemaVersion) {
    return Status(StatusCode::kFailedPrecondition,
                  "the checkpoint's state has schema version " +
                      std::to_string(document["schema_version"].get<int64_t>()) +
                      ", but this program knows only " + std::to_string(kRecordSchemaVersion) +
                      "; use the version that wrote it");
  }
  try {
    return FromJson(document);
  } catch (const json::exception& error) {
    return Status(StatusCode::kDataLoss,
                  std::string("the checkpoint's state is incomplete: ") + error.what());
  }
}

std::string ProcessorModel() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    const size_t colon = line.find(':');
    if (colon != std::string::npos && colon + 2 <= line.size()) return line.substr(colon + 2);
  }
  return "unknown";
}

std::string DescribeDifference(const RunEnvironment& stored, const RunEnvironment& now) {
  std::string text;
  Compare("threads", std::to_string(stored.threads), std::to_string(now.threads), &text);
  Compare("processor", stored.processor, now.processor, &text);
  Compare("backend", stored.backend, now.backend, &text);
  Compare("version", stored.version, now.version, &text);
  Compare("ranks", std::to_string(stored.ranks), std::to_string(now.ranks), &text);
  if (stored.micro_batch > 0) {
    Compare("micro_batch", std::to_string(stored.micro_batch), std::to_string(now.micro_batch),
            &text);
  }
  return text;
}

Status CheckPosition(const TrainerState& state, const TrainingConfig& config) {
  if (state.seed != config.seed) {
    return Mismatch("train.seed is " + std::to_string(config.seed) + ", but the checkpoint has " +
                    std::to_string(state.seed));
  }
  const int64_t rows_per_step = config.micro_steps * config.micro_batch_rows;
  const int64_t rows = BatchAfter(config, state.step) * rows_per_step;
  if (state.rows_consumed != rows) {
    return Mismatch("train.batch_tokens says that step " + std::to_string(state.step) +
                    " has read " + std::to_string(rows) + " rows, but the checkpoint has read " +
                    std::to_string(state.rows_consumed));
  }
  if (state.tokens_total != state.step * rows_per_step * config.sequence_length) {
    return Mismatch("data.sequence_length is " + std::to_string(config.sequence_length) +
                    ", but the checkpoint was made with another");
  }
  return Status();
}

}  // namespace sinkforge::trainer
