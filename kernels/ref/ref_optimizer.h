// The oracle of AdamW and Muon; formulas at AdamWArgs and MuonArgs in backend.h.
#pragma once

#include <vector>

#include "kernels/backend.h"
#include "kernels/ref/rounding.h"

namespace sinkforge::kernels {

template <typename Real>
struct RefMuonScratch {
  std::vector<Real> x, next;  // [min, max] of (rows, cols)
  std::vector<Real> a, a2;    // [min, min]
};

template <typename Real>
void RefAdamW(const AdamWArgs& args);

// `rounding` is of Newton-Schulz's matrices between products.
template <typename Real>
void RefMuon(const MuonArgs& args, Intermediates rounding, RefMuonScratch<Real>* scratch);

}  // namespace sinkforge::kernels
