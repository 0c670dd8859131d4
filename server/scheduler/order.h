// The order of service over all namespaces, and who is at its head.
#pragma once

#include "server/scheduler/scheduler.h"

namespace sinkforge::server::scheduler {

// Whether `a` is served before `b` as things stand; both wait for the same device.
bool IsBefore(const Cluster& cluster, const WaitingJob& a, const WaitingJob& b);

// The head of the queue among jobs that could run on the workers and quotas there are: the first
// one whose namespace has quota left for it. Null where there is none.
const WaitingJob* Head(const Cluster& cluster, v1::Device device);

// The first in its namespace, which may wait for quota; null where no job of it could ever run.
const WaitingJob* HeadOfNamespace(const Cluster& cluster, v1::Device device,
                                  const std::string& name, const Queue::Classes& classes);

// The first job behind the head that can start on what is free, or null.
const WaitingJob* Backfill(const Cluster& cluster, v1::Device device);

}  // namespace sinkforge::server::scheduler
