// CheckGradients: the whole model's hand-written gradients against central differences in float64.
#pragma once

#include <cmath>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "tests/unit/trainer/core/model_probe.h"

namespace sinkforge::trainer {

constexpr double kGradientTolerance = 1e-6;
constexpr size_t kCoordinatesPerTensor = 6;
constexpr int kDirections = 3;

// The probe's gradients must be the exact ones. `differences` gives the loss that is differentiated
// (the same probe, or a surrogate's). Returns the worst relative error.
inline double CheckGradients(ModelProbe& exact, ModelProbe& differences) {
  exact.ComputeGradients();
  differences.TotalLoss();  // At the base point, before the first step.
  double worst = 0;
  for (size_t tensor = 0; tensor < exact.parameters().size(); ++tensor) {
    const std::string& name = exact.parameters()[tensor].spec.name;
    const std::vector<double> gradient = exact.Gradient(tensor);
    const RandomStream stream(21, name);
    std::vector<double> analytic;
    std::vector<double> numeric;
    for (size_t i = 0; i < std::min(kCoordinatesPerTensor, gradient.size()); ++i) {
      const size_t at = gradient.size() <= kCoordinatesPerTensor
                            ? i
                            : static_cast<size_t>(stream.Bits(i) % gradient.size());
      auto direction = exact.NoDirection();
      direction[tensor].assign(gradient.size(), 0.0);
      direction[tensor][at] = 1;
      analytic.push_back(gradient[at]);
      numeric.push_back(differences.CentralDifference(direction));
    }
    const double error = RelativeDistance(analytic, numeric);
    EXPECT_LE(error, kGradientTolerance) << name << ", by coordinates";
    worst = std::max(worst, error);
    // The whole tensor along one random direction: no coordinate is left out.
    auto direction = exact.NoDirection();
    double along = 0;
    for (size_t i = 0; i < gradient.size(); ++i) {
      direction[tensor].push_back(stream.NormalPair(i)[1]);
      along += gradient[i] * direction[tensor][i];
    }
    const double difference = differences.CentralDifference(direction);
    const double along_error = RelativeDistance({along}, {difference});
    EXPECT_LE(along_error, kGradientTolerance) << name << ", along a random direction";
    worst = std::max(worst, along_error);
  }
  for (int repeat = 0; repeat < kDirections; ++repeat) {
    auto direction = exact.NoDirection();
    double along = 0;
    for (size_t tensor = 0; tensor < exact.parameters().size(); ++tensor) {
      const RandomStream stream(31 + static_cast<uint64_t>(repeat),
                                exact.parameters()[tensor].spec.name);
      const std::vector<double> gradient = exact.Gradient(tensor);
      for (size_t i = 0; i < gradient.size(); ++i) {
        direction[tensor].push_back(0.1 * stream.NormalPair(i)[0]);
        along += gradient[i] * direction[tensor][i];
      }
    }
    const double error = RelativeDistance({along}, {differences.CentralDifference(direction)});
    EXPECT_LE(error, kGradientTolerance) << "all tensors, direction " << repeat;
    worst = std::max(worst, error);
  }
  return worst;
}

// Small enough that a check takes a moment: two layers, four heads of four channels.
inline ModelConfig GradientCheckModel() {
  ModelConfig config;
  config.layers = 2;
  config.width = 16;
  config.heads = 4;
  config.vocab_size = 11;
  config.mlp_width = 12;
  return config;
}

}  // namespace sinkforge::trainer
