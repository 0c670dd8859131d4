// Whom a worker obeys: the first cluster, over its restarts, and no other.
#include "worker/cluster_membership.h"

#include <fstream>

#include "base/files.h"
#include "gtest/gtest.h"
#include "tests/unit/worker/test_support.h"

namespace sinkforge::worker {
namespace {

TEST(ClusterMembershipTest, KeepsTheFirst) {
  const TempFolder folder;
  {
    const auto membership = ClusterMembership::Open(folder.path());
    ASSERT_TRUE(membership.ok()) << membership.status();
    EXPECT_EQ((*membership)->id(), "");
    EXPECT_TRUE((*membership)->Accept(""));  // an older coordinator names none
    EXPECT_EQ((*membership)->id(), "");
    EXPECT_TRUE((*membership)->Accept("first"));
    EXPECT_FALSE((*membership)->Accept("second"));
    EXPECT_TRUE((*membership)->Accept("first"));
  }
  const auto membership = ClusterMembership::Open(folder.path());
  ASSERT_TRUE(membership.ok()) << membership.status();
  EXPECT_EQ((*membership)->id(), "first");
  EXPECT_FALSE((*membership)->Accept("second"));
}

TEST(ClusterMembershipTest, ObeysNobodyBeforeItIsKept) {
  const TempFolder folder;
  const std::string path = folder.path() + "/data";
  const auto membership = ClusterMembership::Open(path);
  ASSERT_TRUE(membership.ok()) << membership.status();
  EXPECT_FALSE((*membership)->Accept("first"));  // there is no such folder
  EXPECT_EQ((*membership)->id(), "");
  ASSERT_TRUE(base::MakeFolder(path).ok());
  EXPECT_TRUE((*membership)->Accept("first"));
}

TEST(ClusterMembershipTest, SaysThatItsFileIsWrong) {
  const TempFolder folder;
  std::ofstream(folder.path() + "/cluster-id") << std::string(5000, 'x');
  EXPECT_FALSE(ClusterMembership::Open(folder.path()).ok());
}

}  // namespace
}  // namespace sinkforge::worker
