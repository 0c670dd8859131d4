// The constants of Muon's orthogonalisation, X <- a X + (b A + c A^2) X with A = X X^T, shared by
// the backends (references.md, nanochat).
#pragma once

namespace sinkforge::kernels {

inline constexpr int kNewtonSchulzSteps = 5;
inline constexpr double kNewtonSchulzA = 3.4445;
inline constexpr double kNewtonSchulzB = -4.7750;
inline constexpr double kNewtonSchulzC = 2.0315;
// Added to the Frobenius norm that X is divided by, so that a zero gradient gives a zero update.
inline constexpr double kNewtonSchulzEpsilon = 1e-7;

}  // namespace sinkforge::kernels
