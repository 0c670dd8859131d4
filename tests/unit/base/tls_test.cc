// Mutual TLS between real servers and channels, with certificates of the script that makes them.
#include "base/tls.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/log_limit.h"
#include "base/rpc.h"
#include "base/rpc_connection.h"
#include "base/tls_watch.h"
#include "tests/unit/trainer/temp_folder.h"

namespace sinkforge::base {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::system_clock;

constexpr char kHost[] = "127.0.0.1";

class TlsTest : public testing::Test {
 protected:
  void SetUp() override { Make("ours", {kHost, "elsewhere.example", "alice"}); }

  std::string PathOf(const std::string& file) const { return folder_ / file; }

  void Run(const std::string& command) const {
    ASSERT_EQ(std::system((command + " > " + PathOf("output") + " 2>&1").c_str()), 0)
        << command << "\n"
        << std::ifstream(PathOf("output")).rdbuf();
  }

  // An authority's folder, with certificates for those hosts.
  void Make(const std::string& authority, const std::vector<std::string>& hosts) const {
    std::string command = absl::StrCat(std::getenv("SINKFORGE_SOURCE_DIR"),
                                       "/deploy/tls/make-certificates.sh ", PathOf(authority));
    for (const std::string& host : hosts) absl::StrAppend(&command, " ", host);
    Run(command);
  }

  TlsFiles FilesOf(const std::string& authority, const std::string& host) const {
    const std::string folder = PathOf(authority) + "/";
    return {folder + host + ".crt", folder + host + ".key", folder + "ca.crt"};
  }

  static std::shared_ptr<const Tls> Load(const TlsFiles& files) {
    auto tls = Tls::Load(files);
    EXPECT_TRUE(tls.ok()) << tls.status();
    return *tls;
  }

  static RunningServer Serve(const Tls* tls) {
    ServerOptions options;
    options.address = absl::StrCat(kHost, ":0");
    options.tls = tls;
    auto running = StartServer(options);
    EXPECT_TRUE(running.ok()) << running.status();
    return *std::move(running);
  }

  static bool Connects(const RunningServer& server, const Tls* tls,
                       milliseconds patience = seconds(20)) {
    const auto channel = MakeChannel(absl::StrCat(kHost, ":", server.port), tls);
    return channel->WaitForConnected(system_clock::now() + patience);
  }

  // Not in the time in which it could have, many times over.
  static bool IsRefused(const RunningServer& server, const Tls* tls) {
    return !Connects(server, tls, seconds(1));
  }

  // What is said where no connection comes about.
  static std::string HintOf(const RunningServer& server, const Tls* tls) {
    const auto channel = MakeChannel(absl::StrCat(kHost, ":", server.port), tls);
    // With TLS 1.3 a caller is connected for a moment before it learns that it is not believed.
    absl::Status status;
    do {
      channel->WaitForConnected(system_clock::now() + milliseconds(500));
      status = AskHealth(channel, seconds(5));
    } while (status.ok());
    return EncryptionHint(std::string(status.message()), tls != nullptr);
  }

  void ExpectWrong(const TlsFiles& files, const std::string& option, const std::string& file) {
    const auto tls = Tls::Load(files);
    EXPECT_TRUE(absl::IsInvalidArgument(tls.status())) << tls.status();
    EXPECT_TRUE(absl::StartsWith(tls.status().message(), absl::StrCat(option, " ", file, ": ")))
        << tls.status();
    EXPECT_FALSE(absl::StrContains(tls.status().message(), "unknown reason")) << tls.status();
  }

  const trainer::TempFolder folder_;
};

TEST_F(TlsTest, IsPlainTextWithoutFiles) {
  const auto tls = Tls::Load({});
  ASSERT_TRUE(tls.ok()) << tls.status();
  EXPECT_EQ(*tls, nullptr);
}

TEST_F(TlsTest, ConnectsThoseWhomOneAuthorityHasSigned) {
  const auto ours = Load(FilesOf("ours", kHost));
  const auto alice = Load(FilesOf("ours", "alice"));
  const RunningServer server = Serve(ours.get());
  EXPECT_TRUE(Connects(server, ours.get()));
  EXPECT_TRUE(Connects(server, alice.get()));
}

TEST_F(TlsTest, RefusesEveryOther) {
  Make("theirs", {kHost});
  const auto ours = Load(FilesOf("ours", kHost));
  const auto theirs = Load(FilesOf("theirs", kHost));
  const auto elsewhere = Load(FilesOf("ours", "elsewhere.example"));
  const RunningServer server = Serve(ours.get());
  EXPECT_TRUE(IsRefused(server, nullptr));
  EXPECT_TRUE(IsRefused(server, theirs.get()));
  const RunningServer plain = Serve(nullptr);
  EXPECT_TRUE(IsRefused(plain, ours.get()));
  const RunningServer foreign = Serve(theirs.get());
  EXPECT_TRUE(IsRefused(foreign, ours.get()));
  // It is one of ours, but not the host that was called.
  const RunningServer other = Serve(elsewhere.get());
  EXPECT_TRUE(IsRefused(other, ours.get()));
}

TEST_F(TlsTest, SaysWhyThereIsNoConnection) {
  Make("theirs", {kHost});
  const auto ours = Load(FilesOf("ours", kHost));
  const auto theirs = Load(FilesOf("theirs", kHost));
  const auto elsewhere = Load(FilesOf("ours", "elsewhere.example"));
  const RunningServer encrypted = Serve(ours.get());
  const RunningServer plain = Serve(nullptr);
  const RunningServer other = Serve(elsewhere.get());
  const std::string asks = "it may ask for certificates: --tls-cert, --tls-key and --tls-ca";
  EXPECT_EQ(HintOf(encrypted, nullptr), asks);
  EXPECT_EQ(HintOf(encrypted, theirs.get()),
            "its certificate has expired, or --tls-ca has not signed it");
  EXPECT_EQ(HintOf(plain, ours.get()), "it does not encrypt");
  EXPECT_EQ(HintOf(other, ours.get()), "its certificate does not name this host");
  // Who believes the server and is not believed learns it from the server's end of the stream.
  TlsFiles mixed = FilesOf("theirs", kHost);
  std::ofstream(PathOf("both")) << std::ifstream(mixed.authority).rdbuf()
                                << std::ifstream(FilesOf("ours", kHost).authority).rdbuf();
  mixed.authority = PathOf("both");
  const auto stranger = Load(mixed);
  EXPECT_EQ(HintOf(encrypted, stranger.get()), "it may not believe --tls-cert: its log says why");
  int port = 0;
  {
    const RunningServer gone = Serve(ours.get());
    port = gone.port;
  }
  RunningServer nobody;
  nobody.port = port;
  EXPECT_EQ(HintOf(nobody, ours.get()), "");
  EXPECT_EQ(HintOf(nobody, nullptr), "");
}

TEST_F(TlsTest, ListensAnywhere) {
  const auto ours = Load(FilesOf("ours", kHost));
  ServerOptions options;
  options.address = "0.0.0.0:0";
  options.tls = ours.get();
  const auto server = StartServer(options);
  EXPECT_TRUE(server.ok()) << server.status();
}

TEST_F(TlsTest, SaysWhichFileIsWrong) {
  const TlsFiles good = FilesOf("ours", kHost);
  TlsFiles files = good;
  files.key.clear();
  EXPECT_EQ(Tls::Load(files).status().message(),
            "--tls-key: is missing; encryption takes --tls-cert, --tls-key and --tls-ca");
  for (const auto& [option, member] :
       {std::pair("--tls-cert", &TlsFiles::certificate), std::pair("--tls-key", &TlsFiles::key),
        std::pair("--tls-ca", &TlsFiles::authority)}) {
    files = good;
    files.*member = PathOf("none");
    ExpectWrong(files, option, PathOf("none"));
    std::ofstream(PathOf("text")) << "no certificate\n";
    files.*member = PathOf("text");
    ExpectWrong(files, option, PathOf("text"));
  }
  files = good;
  files.key = FilesOf("ours", "alice").key;
  ExpectWrong(files, "--tls-key", files.key);
  Run(absl::StrCat("openssl pkey -aes128 -passout pass:secret -in ", good.key, " -out ",
                   PathOf("locked.key")));
  files.key = PathOf("locked.key");
  ExpectWrong(files, "--tls-key", files.key);
}

TEST_F(TlsTest, SaysThatPeersWouldNotBelieveIt) {
  Make("theirs", {kHost});
  TlsFiles files = FilesOf("ours", kHost);
  files.authority = FilesOf("theirs", kHost).authority;
  ExpectWrong(files, "--tls-cert", files.certificate);
  files = FilesOf("ours", "alice");
  Run(absl::StrCat("openssl req -new -key ", files.key, " -subj /CN=alice -out ",
                   PathOf("request")));
  Run(absl::StrCat("openssl x509 -req -days -1 -in ", PathOf("request"), " -CA ", files.authority,
                   " -CAkey ", PathOf("ours/ca.key"), " -out ", files.certificate));
  ExpectWrong(files, "--tls-cert", files.certificate);
  EXPECT_TRUE(absl::StrContains(Tls::Load(files).status().message(), "expired"));
}

TEST_F(TlsTest, TakesNewFilesWithoutARestart) {
  const auto ours = Load(FilesOf("ours", kHost));
  const RunningServer server = Serve(ours.get());
  EXPECT_TRUE(Connects(server, ours.get()));
  Make("theirs", {kHost});
  using std::filesystem::copy_options;
  std::filesystem::copy(PathOf("theirs"), PathOf("ours"),
                        copy_options::recursive | copy_options::overwrite_existing);
  // A channel is made when the files are the new ones; the server's are read soon after.
  const auto theirs = Load(FilesOf("theirs", kHost));
  EXPECT_TRUE(Connects(server, theirs.get()));
}

TEST_F(TlsTest, KnowsWhenACertificateExpires) {
  const auto validity = CheckTlsFiles(FilesOf("ours", kHost));
  ASSERT_TRUE(validity.ok()) << validity.status();
  EXPECT_EQ(validity->until - validity->from, std::chrono::hours(365 * 24));
  EXPECT_LE(validity->from, system_clock::now());
  EXPECT_GT(validity->from, system_clock::now() - std::chrono::hours(1));
}

TEST_F(TlsTest, AScrapeTellsWhenTheCertificateExpires) {
  const TlsFiles files = FilesOf("ours", kHost);
  const TlsWatch watch(files);
  ASSERT_EQ(watch.Collect().size(), 1);
  const auto until = CheckTlsFiles(files)->until.time_since_epoch();
  EXPECT_EQ(watch.Collect().at(0).samples.at(0).value,
            std::chrono::duration<double>(until).count());
  EXPECT_TRUE(TlsWatch(TlsFiles()).Collect().empty());
}

class TlsNewsTest : public testing::Test {
 protected:
  static constexpr system_clock::time_point kStart{std::chrono::hours(1'000'000)};

  static TlsValidity From(int day) {
    return {kStart + std::chrono::hours(24 * day), kStart + std::chrono::hours(24 * (day + 100))};
  }
  // The message of a look on that day; empty: none.
  std::string Look(const absl::StatusOr<TlsValidity>& found, int day) {
    const auto line = news_.Judge(found, kStart + std::chrono::hours(24 * day));
    return line.has_value() ? line->message : "";
  }
  const absl::Status wrong_ = absl::InvalidArgumentError("--tls-key k: no such file");
  TlsNews news_;
};

TEST_F(TlsNewsTest, SaysOnceThatFilesAreWrongAndThatTheyAreRightAgain) {
  EXPECT_EQ(Look(From(0), 1), "");
  EXPECT_EQ(Look(wrong_, 1), "");  // somebody may be writing them
  EXPECT_EQ(Look(wrong_, 1), "new connections fail until the certificate's files are right");
  EXPECT_EQ(Look(wrong_, 1), "");
  const absl::Status other = absl::InvalidArgumentError("--tls-cert c: expired");
  EXPECT_EQ(Look(other, 1), "");
  EXPECT_EQ(Look(other, 1), "new connections fail until the certificate's files are right");
  EXPECT_EQ(Look(From(0), 1), "the certificate's files are right again");
  EXPECT_EQ(Look(From(0), 1), "");
  // A short time of being wrong is not told, nor its end.
  EXPECT_EQ(Look(wrong_, 1), "");
  EXPECT_EQ(Look(From(0), 1), "");
}

TEST_F(TlsNewsTest, SaysThatACertificateExpiresSoonAndThatThereIsANewOne) {
  const std::string soon =
      "the certificate expires soon; put a new one in its place, which needs no restart";
  EXPECT_EQ(Look(From(0), 89), "");
  EXPECT_EQ(Look(From(0), 90), soon);
  EXPECT_EQ(Look(From(0), 91), "");
  EXPECT_EQ(Look(From(91), 91), "the certificate is a new one");
  EXPECT_EQ(Look(From(91), 92), "");
  EXPECT_EQ(Look(From(91), 181), soon);
}

TEST(LogLimitTest, AdmitsATextOnceAMinuteAndCountsTheRest) {
  LogLimit limit;
  EXPECT_EQ(limit.Admit("a", seconds(0)), 0);
  EXPECT_EQ(limit.Admit("a", seconds(1)), std::nullopt);
  EXPECT_EQ(limit.Admit("b", seconds(1)), 0);
  EXPECT_EQ(limit.Admit("a", seconds(59)), std::nullopt);
  EXPECT_EQ(limit.Admit("a", seconds(60)), 2);
  EXPECT_EQ(limit.Admit("a", seconds(61)), std::nullopt);
}

TEST(LogLimitTest, AdmitsNoMoreThanAHundredTextsAMinute) {
  LogLimit limit;
  int admitted = 0;
  for (int i = 0; i < 1000; ++i) admitted += limit.Admit(absl::StrCat(i), seconds(0)).has_value();
  EXPECT_EQ(admitted, 100);
  EXPECT_EQ(limit.Admit("new", seconds(59)), std::nullopt);
  EXPECT_EQ(limit.Admit("new", seconds(60)), 0);
}

}  // namespace
}  // namespace sinkforge::base
