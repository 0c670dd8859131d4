// CountPieces: a table for each thread, added up at the end.
#include <algorithm>
#include <memory>
#include <utility>

#include "tokenizer/bpe_trainer.h"
#include "tokenizer/ordered_pool.h"
#include "tokenizer/split_pattern.h"
#include "tokenizer/training_family.h"
#include "tokenizer/unicode.h"

namespace sinkforge::tokenizer {
namespace {

constexpr size_t kBlockBytes = size_t{1} << 20;
constexpr size_t kPendingPerThread = 4;

class PieceCounter {
 public:
  PieceCounter(const SplitPattern& pattern, bool nfc) : splitter_(pattern), nfc_(nfc) {}

  void CountLine(std::string_view line) {
    const std::optional<std::string> normal = nfc_ ? ToNfc(line) : std::nullopt;
    const std::string_view text = normal.has_value() ? std::string_view(*normal) : line;
    for (size_t at = 0; at < text.size();) {
      const size_t end = splitter_.PieceEnd(text, at);
      piece_.assign(text.substr(at, end - at));
      ++counts_[piece_];
      at = end;
    }
  }

  void CountLines(std::string_view text) {
    while (!text.empty()) {
      const size_t bytes = std::min(text.find('\n'), text.size() - 1) + 1;
      CountLine(text.substr(0, bytes));
      text.remove_prefix(bytes);
    }
  }

  LineParser& parser() { return parser_; }
  PieceCounts& counts() { return counts_; }

 private:
  Splitter splitter_;
  bool nfc_;
  LineParser parser_;
  std::string piece_;  // its memory serves all pieces
  PieceCounts counts_;
};

struct Counted {
  absl::Status status;
  int64_t lines = 0;
  int64_t source_bytes = 0;
};

class CorpusCounter {
 public:
  CorpusCounter(const SplitPattern& pattern, const TrainingOptions& options, const ShowBytes& show)
      : show_(show), pool_(options.threads) {
    for (int i = 0; i < options.threads; ++i) {
      counters_.push_back(std::make_unique<PieceCounter>(pattern, FamilyOf(options.family).nfc));
    }
  }

  absl::Status Count(const CorpusFile& file) {
    path_ = file.path;
    lines_ = 0;
    const absl::Status status =
        file.kind == CorpusFile::Kind::kText ? CountText(file) : CountJsonLines(file);
    return status.ok() ? TakeUntil(0) : status;
  }

  PieceCounts Take() {
    PieceCounts all = std::move(counters_[0]->counts());
    for (size_t i = 1; i < counters_.size(); ++i) {
      for (const auto& [piece, count] : counters_[i]->counts()) all[piece] += count;
    }
    return all;
  }

 private:
  absl::Status CountText(const CorpusFile& file) {
    auto content = ReadTextDocument(file);
    if (!content.ok()) return content.status();
    const auto text = std::make_shared<std::string>(*std::move(content));
    std::string_view rest = *text;
    absl::Status status;
    while (!rest.empty() && status.ok()) {
      const size_t line_end = rest.find('\n', std::min(kBlockBytes, rest.size()));
      const std::string_view block = rest.substr(0, std::min(line_end, rest.size() - 1) + 1);
      rest.remove_prefix(block.size());
      status = Submit([this, text, block](int thread) {
        counters_[static_cast<size_t>(thread)]->CountLines(block);
        return Counted{absl::OkStatus(), 0, static_cast<int64_t>(block.size())};
      });
    }
    return status;
  }

  absl::Status CountJsonLines(const CorpusFile& file) {
    auto blocks = LineBlocks::Open(file.path);
    if (!blocks.ok()) return blocks.status();
    absl::Status status;
    while (status.ok()) {
      auto block = (*blocks)->Next();
      if (!block.ok()) return block.status();
      if (block->empty()) return absl::OkStatus();
      status = Submit([this, text = std::make_shared<std::string>(*std::move(block))](int thread) {
        return CountLineBlock(text.get(), counters_[static_cast<size_t>(thread)].get());
      });
    }
    return status;
  }

  static Counted CountLineBlock(std::string* block, PieceCounter* counter) {
    Counted counted;
    counted.source_bytes = static_cast<int64_t>(block->size());
    counter->parser().Begin(block);
    std::string_view document;
    while (true) {
      const auto more = counter->parser().Next(&document);
      counted.lines = counter->parser().lines();
      if (!more.ok()) counted.status = more.status();
      if (!more.ok() || !*more) return counted;
      counter->CountLines(document);
    }
  }

  absl::Status Submit(OrderedPool<Counted>::Work work) {
    pool_.Submit(std::move(work));
    return TakeUntil(kPendingPerThread * static_cast<size_t>(pool_.threads()));
  }

  absl::Status TakeUntil(size_t pending) {
    while (pool_.pending() > pending) {
      const Counted counted = pool_.Take();
      lines_ += counted.lines;
      if (!counted.status.ok()) return AtLine(counted.status, path_, lines_);
      bytes_done_ += counted.source_bytes;
      show_(bytes_done_);
    }
    return absl::OkStatus();
  }

  const ShowBytes& show_;
  std::vector<std::unique_ptr<PieceCounter>> counters_;  // one for each thread
  std::string path_;
  int64_t lines_ = 0;
  int64_t bytes_done_ = 0;
  OrderedPool<Counted> pool_;  // its threads use what is above
};

}  // namespace

absl::StatusOr<PieceCounts> CountPieces(const std::vector<CorpusFile>& files,
                                        const TrainingOptions& options, const ShowBytes& show) {
  const auto pattern = SplitPattern::Compile(FamilyOf(options.family).pattern);
  if (!pattern.ok()) return pattern.status();
  CorpusCounter counter(**pattern, options, show);
  for (const CorpusFile& file : files) {
    const absl::Status status = counter.Count(file);
    if (!status.ok()) return status;
  }
  return counter.Take();
}

}  // namespace sinkforge::tokenizer
