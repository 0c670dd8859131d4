// Use and quotas of namespaces; see shares.h.
#include "server/scheduler/shares.h"

#include <algorithm>
#include <climits>

#include "base/check.h"

namespace sinkforge::server::scheduler {

void Shares::Set(const v1::Namespace& settings) { settings_[settings.namespace_()] = settings; }

void Shares::Use(const std::string& name, v1::Device device, int slots) {
  std::map<std::string, int>& by_name = used_[device];
  int& used = by_name[name];
  used += slots;
  SINKFORGE_REQUIRE(used >= 0);
  if (used == 0) by_name.erase(name);
}

int Shares::Used(const std::string& name, v1::Device device) const {
  const auto by_name = used_.find(device);
  if (by_name == used_.end()) return 0;
  const auto used = by_name->second.find(name);
  return used == by_name->second.end() ? 0 : used->second;
}

int Shares::Limit(const std::string& name, v1::Device device) const {
  const auto found = settings_.find(name);
  if (found == settings_.end()) return INT_MAX;
  const v1::Namespace& settings = found->second;
  if (device == v1::DEVICE_CPU && settings.has_cpu_slots()) return settings.cpu_slots();
  if (device == v1::DEVICE_CUDA && settings.has_cuda_slots()) return settings.cuda_slots();
  return INT_MAX;
}

int Shares::Left(const std::string& name, v1::Device device) const {
  return std::max(0, Limit(name, device) - Used(name, device));
}

double Shares::Share(const std::string& name, v1::Device device) const {
  const auto found = settings_.find(name);
  const double weight = found == settings_.end() ? 1 : found->second.weight();
  return Used(name, device) / weight;
}

}  // namespace sinkforge::server::scheduler
