// Names, addresses and folders as the daemon's options give them, the bad ones above all.
#include "worker/environment.h"

#include <sys/stat.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/worker/test_support.h"

namespace sinkforge::worker {
namespace {

using testing::HasSubstr;

TEST(EnvironmentTest, ChecksNames) {
  EXPECT_TRUE(CheckWorkerName("node-1.example_A").ok());
  EXPECT_TRUE(CheckWorkerName(DefaultWorkerName()).ok());
  for (const std::string& name : {std::string(), std::string(64, 'a'), std::string("a b")}) {
    const absl::Status status = CheckWorkerName(name);
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_THAT(std::string(status.message()), HasSubstr("--name"));
  }
}

TEST(EnvironmentTest, AdvertisesAnAddressThatOthersCanUse) {
  EXPECT_EQ(AdvertisedAddress("127.0.0.1:0", 4321), "127.0.0.1:4321");
  EXPECT_THAT(AdvertisedAddress("0.0.0.0:0", 4321), testing::Not(HasSubstr("0.0.0.0")));
}

TEST(EnvironmentTest, ResolvesDataRootsAndNamesAMissingOne) {
  const TempFolder folder;
  std::filesystem::create_directory(folder.path() + "/real");
  std::filesystem::create_symlink("real", folder.path() + "/link");
  const auto roots = ResolveDataRoots({folder.path() + "/link"});
  ASSERT_TRUE(roots.ok());
  EXPECT_THAT(roots->front(), testing::EndsWith("/real"));
  const absl::Status status = ResolveDataRoots({folder.path() + "/none"}).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("/none"));
  const std::string latin = folder.path() + "/caf\xe9";
  std::filesystem::create_directory(latin);
  const absl::Status encoding = ResolveDataRoots({latin}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(encoding));
  EXPECT_THAT(std::string(encoding.message()), HasSubstr("/caf\uFFFD: its name is not UTF-8"));
}

TEST(EnvironmentTest, NamesATrainerThatCannotRun) {
  EXPECT_TRUE(ResolveTrainer("/bin/sh").ok());
  const TempFolder folder;
  std::ofstream(folder.path() + "/text") << "no program";
  for (const char* name : {"/text", "/none"}) {
    const absl::Status status = ResolveTrainer(folder.path() + name).status();
    EXPECT_TRUE(absl::IsNotFound(status));
    EXPECT_THAT(std::string(status.message()), HasSubstr("--trainer"));
  }
}

TEST(EnvironmentTest, FindsRoomForTheSocketHoweverDeepTheDataFolderIs) {
  const TempFolder folder;
  const auto near = MakeSocketAddress(folder.path());
  ASSERT_TRUE(near.ok());
  EXPECT_THAT(*near, testing::EndsWith("/run/trainer.sock"));
  struct stat info = {};
  ASSERT_EQ(stat((folder.path() + "/run").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700U);

  const std::string deep = folder.path() + "/" + std::string(120, 'd');
  std::filesystem::create_directory(deep);
  const auto far = MakeSocketAddress(deep);
  ASSERT_TRUE(far.ok());
  EXPECT_LT(far->size(), 108U);
  EXPECT_EQ(*far, *MakeSocketAddress(deep));
  std::filesystem::remove_all(std::filesystem::path(far->substr(5)).parent_path());
}

TEST(EnvironmentTest, RefusesAFolderOfSomeoneElse) {
  const TempFolder folder;
  std::filesystem::create_directory_symlink("/tmp", folder.path() + "/run");
  EXPECT_TRUE(absl::IsFailedPrecondition(MakeSocketAddress(folder.path()).status()));
}

}  // namespace
}  // namespace sinkforge::worker
