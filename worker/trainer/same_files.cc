// A rank first tells one number for each field; only where these differ, three for each file.
#include "worker/trainer/same_files.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <span>
#include <utility>

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

using Numbers = std::vector<int64_t>;

// What each rank tells, at its index; all tell as many numbers. kUnavailable.
Result<std::vector<Numbers>> Exchange(const Numbers& own, Collective* collective) {
  const auto ranks = static_cast<size_t>(collective->world_size());
  // Every rank fills its own part, and the others' numbers are never less than the rest.
  Numbers all(own.size() * ranks, std::numeric_limits<int64_t>::min());
  std::copy(own.begin(), own.end(),
            all.begin() + static_cast<std::ptrdiff_t>(own.size()) * collective->rank());
  if (Status status = collective->AllReduceMax(std::span<int64_t>(all)); !status.ok()) {
    return status;
  }
  std::vector<Numbers> by_rank;
  for (size_t rank = 0; rank < ranks; ++rank) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(own.size() * rank);
    by_rank.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(own.size()));
  }
  return by_rank;
}

// The first rank that tells something else than this one; -1 where there is none.
int OtherThan(const Numbers& own, const std::vector<Numbers>& by_rank) {
  const auto other = std::find_if(by_rank.begin(), by_rank.end(),
                                  [&](const Numbers& numbers) { return numbers != own; });
  return other == by_rank.end() ? -1 : static_cast<int>(other - by_rank.begin());
}

constexpr size_t kNumbersOfFile = 3;  // name, bytes, content

Numbers NumbersOf(const std::vector<FileDigest>& files) {
  Numbers numbers;
  for (const FileDigest& file : files) {
    numbers.push_back(std::bit_cast<int64_t>(XXH3_64bits(file.name.data(), file.name.size())));
    numbers.push_back(file.bytes);
    numbers.push_back(std::bit_cast<int64_t>(file.xxh3));
  }
  return numbers;
}

std::string RankText(int rank) { return "rank " + std::to_string(rank) + ": "; }

std::string SizeText(int64_t bytes, uint64_t xxh3) {
  return std::to_string(bytes) + " bytes, fingerprint " + FingerprintText(xxh3);
}

// "rank 1: a.txt, 5 bytes, fingerprint X; rank 0: 4 bytes, fingerprint Y", where this is rank 1.
Result<std::string> DescribeDifference(const std::vector<FileDigest>& files,
                                       Collective* collective) {
  const Numbers count = {static_cast<int64_t>(files.size())};
  const Result<std::vector<Numbers>> counts = Exchange(count, collective);
  if (!counts.ok()) return counts.status();
  if (const int other = OtherThan(count, counts.value()); other >= 0) {
    return RankText(collective->rank()) + std::to_string(count[0]) + " files; " + RankText(other) +
           std::to_string(counts.value()[static_cast<size_t>(other)][0]) + " files";
  }
  const Numbers own = NumbersOf(files);
  const Result<std::vector<Numbers>> all = Exchange(own, collective);
  if (!all.ok()) return all.status();
  const int other = OtherThan(own, all.value());
  SINKFORGE_CHECK(other >= 0);  // it was asked because the ranks differ
  const Numbers& theirs = all.value()[static_cast<size_t>(other)];
  const auto differs = std::mismatch(own.begin(), own.end(), theirs.begin()).first - own.begin();
  const size_t index = static_cast<size_t>(differs) / kNumbersOfFile;
  const int64_t* of_file = &theirs[index * kNumbersOfFile];
  const bool same_name = of_file[0] == own[index * kNumbersOfFile];
  const FileDigest& file = files[index];
  return RankText(collective->rank()) + file.name + ", " + SizeText(file.bytes, file.xxh3) + "; " +
         RankText(other) + (same_name ? "" : "another name, ") +
         SizeText(of_file[1], std::bit_cast<uint64_t>(of_file[2]));
}

}  // namespace

FieldFiles ByGivenNames(const std::string& field, const std::vector<ResolvedFile>& files,
                        std::vector<FileDigest> digests) {
  SINKFORGE_CHECK(files.size() == digests.size());
  for (size_t i = 0; i < files.size(); ++i) digests[i].name = files[i].given;
  return {field, std::move(digests)};
}

Status CheckSameFiles(const std::vector<FieldFiles>& fields, Collective* collective) {
  Numbers own;
  for (const FieldFiles& field : fields) {
    const Numbers numbers = NumbersOf(field.files);
    own.push_back(
        std::bit_cast<int64_t>(XXH3_64bits(numbers.data(), numbers.size() * sizeof(int64_t))));
  }
  const Result<std::vector<Numbers>> all = Exchange(own, collective);
  if (!all.ok()) return all.status();
  for (size_t i = 0; i < fields.size(); ++i) {
    const bool same =
        std::all_of(all.value().begin(), all.value().end(),
                    [&](const Numbers& numbers) { return numbers[i] == all.value()[0][i]; });
    if (same) continue;
    const Result<std::string> difference = DescribeDifference(fields[i].files, collective);
    if (!difference.ok()) return difference.status();
    // Nobody ends before all know what differs: a rank would take another one's end for its loss.
    // How the barrier itself ends does not matter.
    (void)collective->Barrier();
    return Status(StatusCode::kInvalidData,
                  fields[i].field + ": its files are not the same on all ranks' machines (" +
                      difference.value() + "); copy them from one machine to the others");
  }
  return Status();
}

}  // namespace sinkforge::trainer
