// nlohmann_json prints the shortest decimal that reads back to the same float64.
#include "worker/trainer/step_json.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace sinkforge::trainer {

std::string StepToJson(const StepReport& report) {
  nlohmann::ordered_json line;
  line["step"] = report.step;
  line["loss"] = report.loss;
  line["aux_loss"] = report.aux_loss;
  line["imbalance"] = report.imbalance;
  line["layer_cv"] = report.layer_cv;
  line["importance"] = report.importance;
  line["heads"] = report.heads;
  line["learning_rate_scale"] = report.learning_rate_scale;
  line["gradient_norm"] = report.gradient_norm;
  line["step_seconds"] = report.step_seconds;
  line["data_seconds"] = report.data_seconds;
  line["checkpoint_stall_seconds"] = report.checkpoint_stall_seconds;
  line["tokens_per_second"] = report.tokens_per_second;
  line["tokens_total"] = report.tokens_total;
  if (report.validation_loss) line["validation_loss"] = *report.validation_loss;
  if (report.validation_bits_per_byte) {
    line["validation_bits_per_byte"] = *report.validation_bits_per_byte;
  }
  return line.dump();
}

std::optional<int64_t> StepOfJson(const std::string& line) {
  const nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) {
    return std::nullopt;
  }
  return json["step"].get<int64_t>();
}

std::string ProgressLine(const StepReport& report, int64_t steps) {
  double low = 0;
  double high = 0;
  if (!report.importance.empty()) {
    const auto [least, most] =
        std::minmax_element(report.importance.begin(), report.importance.end());
    low = *least;
    high = *most;
  }
  const auto left =
      static_cast<int64_t>(static_cast<double>(steps - report.step) * report.step_seconds);
  char text[256];
  std::snprintf(text, sizeof(text),
                "step %lld/%lld loss %.4f aux %.2e imbalance %.4f importance %.4f..%.4f "
                "%.0f tokens/s ETA %lld:%02lld",
                static_cast<long long>(report.step), static_cast<long long>(steps), report.loss,
                report.aux_loss, report.imbalance, low, high, report.tokens_per_second,
                static_cast<long long>(left / 60), static_cast<long long>(left % 60));
  std::string line = text;
  if (report.validation_loss) {
    std::snprintf(text, sizeof(text), " validation loss %.4f", *report.validation_loss);
    line += text;
  }
  if (report.validation_bits_per_byte) {
    std::snprintf(text, sizeof(text), " bits per byte %.4f", *report.validation_bits_per_byte);
    line += text;
  }
  return line;
}

}  // namespace sinkforge::trainer
