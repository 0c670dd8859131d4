// A file system layer that knows which bytes would survive a power loss: in a program that links
// it, fsync and fdatasync of everybody, RocksDB included, note what they make durable.
#pragma once

#include <string>

namespace sinkforge::sim {

// Makes `to` what `from` would be after a power loss now: every file is cut to what was last
// synced, and files that never were are empty. Creating, renaming and deleting files counts as
// durable at once, as on a file system that logs its metadata. Other threads may go on writing.
void CopyAfterPowerLoss(const std::string& from, const std::string& to);

// Calls so far, to see that the layer is really in use.
int SyncCount();

}  // namespace sinkforge::sim
