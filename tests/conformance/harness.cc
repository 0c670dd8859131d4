// See harness.h.
#include "tests/conformance/harness.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>

#include "kernels/bfloat16.h"

namespace sinkforge::kernels::conformance {
namespace {

constexpr int64_t kGuardBytes = 256;  // keeps the payload aligned to a cache line
constexpr unsigned char kGuardByte = 0xA5;

DType DTypeOfField(const Field& field, const Backend& backend) {
  switch (field.type) {
    case FieldType::kReal:
      return backend.activation_dtype();
    case FieldType::kStatistic:
      return backend.compute_dtype();
    case FieldType::kDouble:
      return DType::kF64;
    case FieldType::kInt:
      break;
  }
  return DType::kI32;
}

int64_t ElementsOf(const Field& field) {
  int64_t count = 1;
  for (int64_t dim : field.shape) count *= dim;
  return count;
}

// FNV-1a: the standard library's hash is not the same everywhere.
uint64_t SeedOf(const std::string& text) {
  uint64_t hash = 14695981039346656037U;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
  return hash;
}

std::vector<double> Values(const OpCase& op, const Field& field) {
  std::mt19937_64 random(SeedOf(op.name + "/" + field.name));
  std::normal_distribution<double> normal;
  std::vector<double> values(static_cast<size_t>(ElementsOf(field)));
  const auto below = [&random](int64_t limit) {
    return static_cast<double>(random() % static_cast<uint64_t>(limit));
  };
  for (double& value : values) {
    const double x = static_cast<double>(static_cast<float>(normal(random)));
    switch (field.fill) {
      case Fill::kNormal:
        value = x;
        break;
      case Fill::kSmall:
        value = static_cast<double>(static_cast<float>(0.1 * x));
        break;
      case Fill::kSquare:
        value = static_cast<double>(static_cast<float>(x * x));
        break;
      case Fill::kToken:
        value = below(field.limit);
        break;
      case Fill::kTarget:
        value = below(field.limit + 1) - 1;
        break;
      case Fill::kNaN:
        value = std::nan("");
        break;
      case Fill::kZero:
        value = 0;
        break;
    }
  }
  return values;
}

void RoundValues(std::vector<double>* values) {
  for (double& value : *values) {
    value = static_cast<double>(FromBfloat16(RoundToBfloat16(static_cast<float>(value))));
  }
}

template <typename T>
std::vector<unsigned char> Encode(const std::vector<double>& values) {
  std::vector<unsigned char> bytes(values.size() * sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    const T value = static_cast<T>(values[i]);
    std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
  }
  return bytes;
}

template <typename T>
std::vector<double> Decode(const unsigned char* bytes, size_t count) {
  std::vector<double> values(count);
  for (size_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, bytes + i * sizeof(T), sizeof(T));
    values[i] = static_cast<double>(value);
  }
  return values;
}

std::vector<unsigned char> EncodeAs(DType dtype, const std::vector<double>& values) {
  switch (dtype) {
    case DType::kF64:
      return Encode<double>(values);
    case DType::kF32:
      return Encode<float>(values);
    case DType::kI32:
      return Encode<int32_t>(values);
    case DType::kBF16:
      break;
  }
  std::vector<unsigned char> bytes(values.size() * sizeof(uint16_t));
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t bits = RoundToBfloat16(static_cast<float>(values[i]));
    std::memcpy(bytes.data() + i * sizeof(bits), &bits, sizeof(bits));
  }
  return bytes;
}

std::vector<double> DecodeAs(DType dtype, const unsigned char* bytes, size_t count) {
  switch (dtype) {
    case DType::kF64:
      return Decode<double>(bytes, count);
    case DType::kF32:
      return Decode<float>(bytes, count);
    case DType::kI32:
      return Decode<int32_t>(bytes, count);
    case DType::kBF16:
      break;
  }
  std::vector<double> values(count);
  for (size_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, bytes + i * sizeof(bits), sizeof(bits));
    values[i] = static_cast<double>(FromBfloat16(bits));
  }
  return values;
}

// One field in a backend's memory, with a guard zone on both sides.
class GuardedField {
 public:
  GuardedField(const OpCase& op, const Field& field, InputPrecision precision, Backend* backend)
      : field_(field), backend_(backend), dtype_(DTypeOfField(field, *backend)) {
    std::vector<double> values = Values(op, field);
    if (precision == InputPrecision::kBfloat16 && field.type == FieldType::kReal) {
      RoundValues(&values);
    }
    const std::vector<unsigned char> payload = EncodeAs(dtype_, values);
    payload_bytes_ = payload.size();
    // Whole words, which Whole() counts.
    initial_.assign((payload.size() + 3) / 4 * 4 + 2 * kGuardBytes, kGuardByte);
    std::memcpy(initial_.data() + kGuardBytes, payload.data(), payload.size());
    memory_ = static_cast<unsigned char*>(backend->Allocate(Bytes()));
    SINKFORGE_CHECK(memory_ != nullptr);
    Reset();
  }
  ~GuardedField() { backend_->Free(memory_); }
  GuardedField(const GuardedField&) = delete;
  GuardedField& operator=(const GuardedField&) = delete;

  void Reset() { backend_->CopyFromHost(Whole(), initial_.data()); }

  Tensor View() const {
    Tensor tensor(memory_ + kGuardBytes, dtype_, {});
    for (int64_t dim : field_.shape) tensor.shape[static_cast<size_t>(tensor.rank++)] = dim;
    return tensor;
  }

  void Collect(CaseResult* result) const {
    std::vector<unsigned char> now(initial_.size());
    backend_->CopyToHost(now.data(), Whole());
    const size_t guard = static_cast<size_t>(kGuardBytes);
    const size_t end = guard + payload_bytes_;
    if (std::memcmp(now.data(), initial_.data(), guard) != 0 ||
        std::memcmp(now.data() + end, initial_.data() + end, now.size() - end) != 0) {
      result->broken_guards.push_back(field_.name);
    }
    if (field_.role == Role::kInput) {
      if (now != initial_) result->changed_inputs.push_back(field_.name);
      return;
    }
    const size_t count = static_cast<size_t>(ElementsOf(field_));
    result->outputs[field_.name] = DecodeAs(dtype_, now.data() + guard, count);
  }

 private:
  int64_t Bytes() const { return static_cast<int64_t>(initial_.size()); }
  Tensor Whole() const { return Tensor(memory_, DType::kI32, {Bytes() / 4}); }

  const Field& field_;
  Backend* backend_;
  DType dtype_;
  size_t payload_bytes_ = 0;
  std::vector<unsigned char> initial_;
  unsigned char* memory_ = nullptr;
};

double NormOfDifference(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

}  // namespace

CaseResult RunCase(const OpCase& op, Backend* backend, int runs, InputPrecision precision) {
  std::map<std::string, GuardedField> fields;
  TensorMap tensors;
  for (const Field& field : op.fields) {
    const auto [at, inserted] = fields.try_emplace(field.name, op, field, precision, backend);
    SINKFORGE_CHECK(inserted);
    tensors[field.name] = at->second.View();
  }
  for (int run = 0; run < runs; ++run) {
    if (run > 0) {
      for (auto& [name, field] : fields) field.Reset();
    }
    op.run(backend, tensors);
  }
  CaseResult result;
  for (const auto& [name, field] : fields) field.Collect(&result);
  return result;
}

std::vector<std::string> CompareToReference(const CaseResult& tested, const CaseResult& ref32,
                                            const CaseResult& exact) {
  constexpr double kEpsilon = 1.1920929e-7;
  std::vector<std::string> failures;
  for (const auto& [name, values] : exact.outputs) {
    const double error = NormOfDifference(tested.outputs.at(name), values);
    const double reference_error = NormOfDifference(ref32.outputs.at(name), values);
    const double norm = NormOfDifference(values, std::vector<double>(values.size(), 0.0));
    const double floor = 4 * kEpsilon * (norm + std::sqrt(static_cast<double>(values.size())));
    // Written so that a NaN fails.
    if (error <= 2 * reference_error + floor) continue;
    char line[256];
    std::snprintf(line, sizeof(line), "%s: error %.3g, reference's %.3g, norm %.3g, floor %.3g",
                  name.c_str(), error, reference_error, norm, floor);
    failures.emplace_back(line);
  }
  return failures;
}

std::vector<std::string> DifferingBits(const CaseResult& a, const CaseResult& b) {
  std::vector<std::string> names;
  for (const auto& [name, values] : a.outputs) {
    const std::vector<double>& others = b.outputs.at(name);
    // Widening to float64 keeps different bits different.
    if (std::memcmp(values.data(), others.data(), values.size() * sizeof(double)) != 0) {
      names.push_back(name);
    }
  }
  return names;
}

}  // namespace sinkforge::kernels::conformance
