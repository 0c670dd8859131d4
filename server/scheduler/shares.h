// Shares: what each namespace may use, and what it uses now.
#pragma once

#include <map>
#include <string>

#include "sinkforge/v1/job.pb.h"

namespace sinkforge::server::scheduler {

// Not thread-safe.
class Shares {
 public:
  // Weight and quotas; a namespace that was never set has weight 1 and no quota.
  void Set(const v1::Namespace& settings);
  const std::map<std::string, v1::Namespace>& settings() const { return settings_; }

  // `slots` may be negative.
  void Use(const std::string& name, v1::Device device, int slots);
  int Used(const std::string& name, v1::Device device) const;
  // The quota; INT_MAX where there is none.
  int Limit(const std::string& name, v1::Device device) const;
  // Slots that it may still start on; never negative.
  int Left(const std::string& name, v1::Device device) const;
  // Slots in use for its weight: the smallest is served first.
  double Share(const std::string& name, v1::Device device) const;

 private:
  std::map<std::string, v1::Namespace> settings_;
  std::map<v1::Device, std::map<std::string, int>> used_;  // no zeros
};

}  // namespace sinkforge::server::scheduler
