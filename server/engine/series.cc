// Names of series and their values; see series.h.
#include "server/engine/series.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace sinkforge::server {
namespace {

struct ScalarName {
  const char* name;
  SeriesKind kind;
};

constexpr std::array<ScalarName, 13> kScalars = {{
    {"loss", SeriesKind::kLoss},
    {"aux_loss", SeriesKind::kAuxLoss},
    {"imbalance", SeriesKind::kImbalance},
    {"learning_rate_scale", SeriesKind::kLearningRateScale},
    {"gradient_norm", SeriesKind::kGradientNorm},
    {"step_seconds", SeriesKind::kStepSeconds},
    {"tokens_per_second", SeriesKind::kTokensPerSecond},
    {"tokens_total", SeriesKind::kTokensTotal},
    {"validation_loss", SeriesKind::kValidationLoss},
    {"validation_bits_per_byte", SeriesKind::kValidationBitsPerByte},
    {"memory_bytes", SeriesKind::kMemoryBytes},
    {"importance_min", SeriesKind::kImportanceMin},
    {"importance_max", SeriesKind::kImportanceMax},
}};

absl::Status Unknown(const std::string& name, const ModelShape& shape) {
  std::string valid;
  for (const ScalarName& scalar : kScalars) absl::StrAppend(&valid, scalar.name, ", ");
  return absl::InvalidArgumentError(absl::StrCat(
      "series \"", name.substr(0, 100), "\": not a series; valid are ", valid,
      "layer_cv, layer_cv/<layer>, importance, importance/<layer>, importance/<layer>/<head> with ",
      shape.layers, " layers and ", shape.heads, " heads, counted from 0"));
}

// "layer_cv" and "importance" with up to two numbers below them.
class Expander {
 public:
  Expander(const ModelShape& shape, std::vector<SeriesId>* out) : shape_(shape), out_(out) {}

  bool Expand(const std::string& name) {
    const std::vector<std::string> parts = absl::StrSplit(name, '/');
    int32_t layer = -1;
    int32_t head = -1;
    if (parts.size() > 1 && !Index(parts[1], shape_.layers, &layer)) return false;
    if (parts.size() > 2 && !Index(parts[2], shape_.heads, &head)) return false;
    const int32_t layer_end = layer < 0 ? shape_.layers : layer + 1;
    if (parts[0] == "layer_cv" && parts.size() <= 2) {
      for (int32_t l = std::max(layer, 0); l < layer_end; ++l) {
        out_->push_back({absl::StrCat("layer_cv/", l), SeriesKind::kLayerCv, l, 0});
      }
      return true;
    }
    if (parts[0] != "importance" || parts.size() > 3) return false;
    const int32_t head_end = head < 0 ? shape_.heads : head + 1;
    for (int32_t l = std::max(layer, 0); l < layer_end; ++l) {
      for (int32_t h = std::max(head, 0); h < head_end; ++h) {
        out_->push_back({absl::StrCat("importance/", l, "/", h), SeriesKind::kImportance, l, h});
      }
    }
    return true;
  }

 private:
  static bool Index(const std::string& text, int32_t count, int32_t* index) {
    return !text.empty() && text.front() != '+' && absl::SimpleAtoi(text, index) && *index >= 0 &&
           *index < count;
  }

  const ModelShape shape_;
  std::vector<SeriesId>* const out_;
};

template <typename Pick>
std::optional<double> PickImportance(const v1::StepRecord& record, Pick pick) {
  if (record.importance().empty()) return std::nullopt;
  return static_cast<double>(*pick(record.importance().begin(), record.importance().end()));
}

std::optional<double> LayerValue(const v1::StepRecord& record, const SeriesId& series) {
  if (series.kind == SeriesKind::kLayerCv) {
    if (series.layer >= record.layer_cv_size()) return std::nullopt;
    return record.layer_cv(series.layer);
  }
  const int64_t index = int64_t{series.layer} * record.heads() + series.head;
  if (series.head >= record.heads() || index >= record.importance_size()) return std::nullopt;
  return static_cast<double>(record.importance(static_cast<int>(index)));
}

}  // namespace

absl::StatusOr<std::vector<SeriesId>> ParseSeries(const std::vector<std::string>& names,
                                                  const ModelShape& shape, int64_t series_max) {
  std::vector<SeriesId> series;
  std::set<std::string> known;
  int64_t expanded = 0;  // repetitions count: they cost as much as others
  const auto keep = [&](std::vector<SeriesId> found) {
    expanded += static_cast<int64_t>(found.size());
    if (expanded > series_max) return false;
    for (SeriesId& id : found) {
      if (known.insert(id.name).second) series.push_back(std::move(id));
    }
    return true;
  };
  if (names.empty()) {
    for (const ScalarName& scalar : kScalars) series.push_back({scalar.name, scalar.kind, 0, 0});
    return series;
  }
  for (const std::string& name : names) {
    std::vector<SeriesId> found;
    for (const ScalarName& scalar : kScalars) {
      if (name == scalar.name) found.push_back({scalar.name, scalar.kind, 0, 0});
    }
    if (found.empty() && !Expander(shape, &found).Expand(name)) return Unknown(name, shape);
    if (!keep(std::move(found))) {
      return absl::InvalidArgumentError(absl::StrCat(
          "more than ", series_max, " series in one query; ask for fewer, such as importance/0"));
    }
  }
  return series;
}

std::optional<double> ValueOf(const v1::StepRecord& record, const SeriesId& series) {
  switch (series.kind) {
    case SeriesKind::kLoss:
      return record.loss();
    case SeriesKind::kAuxLoss:
      return record.aux_loss();
    case SeriesKind::kImbalance:
      return record.imbalance();
    case SeriesKind::kLearningRateScale:
      return record.learning_rate_scale();
    case SeriesKind::kGradientNorm:
      return record.gradient_norm();
    case SeriesKind::kStepSeconds:
      return record.step_seconds();
    case SeriesKind::kTokensPerSecond:
      return record.tokens_per_second();
    case SeriesKind::kTokensTotal:
      return static_cast<double>(record.tokens_total());
    case SeriesKind::kValidationLoss:
      if (!record.has_validation_loss()) return std::nullopt;
      return record.validation_loss();
    case SeriesKind::kValidationBitsPerByte:
      if (!record.has_validation_bits_per_byte()) return std::nullopt;
      return record.validation_bits_per_byte();
    case SeriesKind::kMemoryBytes:
      return static_cast<double>(record.memory_bytes());
    case SeriesKind::kImportanceMin:
      return PickImportance(record, [](auto a, auto b) { return std::min_element(a, b); });
    case SeriesKind::kImportanceMax:
      return PickImportance(record, [](auto a, auto b) { return std::max_element(a, b); });
    case SeriesKind::kLayerCv:
    case SeriesKind::kImportance:
      return LayerValue(record, series);
  }
  return std::nullopt;
}

}  // namespace sinkforge::server
