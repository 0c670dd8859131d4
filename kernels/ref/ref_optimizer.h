// The oracle of AdamW and Muon; formulas at AdamWArgs and MuonArgs in backend.h.
#pragma once

#include <vector>

#include "kernels/backend.h"

namespace sinkforge::kernels {

template <typename Real>
struct RefMuonScratch {
  std::vector<Real> x, next;  // [min, max] of (rows, cols)
  std::vector<Real> a, a2;    // [min, min]
};

template <typename Real>
void RefAdamW(const AdamWArgs& args);
template <typename Real>
void RefMuon(const MuonArgs& args, RefMuonScratch<Real>* scratch);

}  // namespace sinkforge::kernels
