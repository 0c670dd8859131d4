// A long text is cut into ranges of equal length, which may begin inside of a piece. Each range's
// first pieces are marked; where the range before it really ended, it is joined there (tokenizer.h,
// `memoryless`), and in the rare case that no mark is at that place it is encoded again.
#include "tokenizer/encode_corpus.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "tokenizer/ordered_pool.h"
#include "tokenizer/unicode.h"

namespace sinkforge::tokenizer {
namespace {

constexpr size_t kRangeBytes = size_t{1} << 20;
constexpr size_t kMarkedBytes = size_t{1} << 14;  // pieces meet again after a few
constexpr size_t kPendingPerThread = 4;

struct TextFile {
  std::string content;
  PreparedText prepared;
};

struct Block {
  std::vector<int32_t> ids;
  int64_t documents = 0;
  int64_t source_bytes = 0;
  // Of a range that begins inside of a text:
  std::optional<TextRange> range;
  size_t end = 0;
  std::vector<PieceMark> marks;
  // Of a .jsonl block:
  absl::Status status;
  int64_t lines = 0;
};

// A thread's own.
struct Workbench {
  std::unique_ptr<Encoder> encoder;
  LineParser parser;
};

class CorpusEncoder {
 public:
  CorpusEncoder(const Tokenizer& tokenizer, const EncodeCorpusOptions& options,
                const CorpusSink& sink)
      : tokenizer_(tokenizer), options_(options), sink_(sink), pool_(options.threads) {
    for (int i = 0; i < options.threads; ++i) {
      benches_.push_back(std::make_unique<Workbench>());
      benches_.back()->encoder = tokenizer.MakeEncoder();
    }
    joiner_ = tokenizer.MakeEncoder();
  }

  absl::StatusOr<CorpusProgress> Run(const std::vector<CorpusFile>& files) {
    for (const CorpusFile& file : files) progress_.bytes_total += file.bytes;
    for (const CorpusFile& file : files) {
      const absl::Status status =
          file.kind == CorpusFile::Kind::kText ? EncodeText(file) : EncodeLines(file);
      if (!status.ok()) return status;
    }
    const absl::Status status = TakeUntil(0);
    if (!status.ok()) return status;
    return progress_;
  }

 private:
  absl::Status EncodeLines(const CorpusFile& file) {
    auto blocks = LineBlocks::Open(file.path);
    if (!blocks.ok()) return blocks.status();
    // Line numbers begin anew.
    absl::Status status = TakeUntil(0);
    path_ = file.path;
    lines_ = 0;
    while (status.ok()) {
      auto block = (*blocks)->Next();
      if (!block.ok()) return block.status();
      if (block->empty()) return absl::OkStatus();
      status = Submit([this, text = std::make_shared<std::string>(*std::move(block))](int thread) {
        return EncodeLineBlock(text.get(), benches_[static_cast<size_t>(thread)].get());
      });
    }
    return status;
  }

  Block EncodeLineBlock(std::string* text, Workbench* bench) const {
    Block block;
    block.source_bytes = static_cast<int64_t>(text->size());
    bench->parser.Begin(text);
    std::string_view document;
    while (true) {
      const auto more = bench->parser.Next(&document);
      block.lines = bench->parser.lines();
      if (!more.ok()) block.status = more.status();
      if (!more.ok() || !*more) return block;
      ++block.documents;
      block.ids.push_back(options_.bos);
      const PreparedText prepared = tokenizer_.Prepare(document);
      for (const Segment& segment : prepared.segments) {
        EncodeWhole(segment, bench->encoder.get(), &block.ids);
      }
    }
  }

  static void EncodeWhole(const Segment& segment, Encoder* encoder, std::vector<int32_t>* ids) {
    if (segment.token.has_value()) {
      ids->push_back(*segment.token);
    } else {
      encoder->EncodeRange({segment.text, 0, segment.text.size()}, ids, nullptr);
    }
  }

  absl::Status EncodeText(const CorpusFile& file) {
    auto content = ReadTextDocument(file);
    if (!content.ok()) return content.status();
    auto text = std::make_shared<TextFile>();
    text->content = *std::move(content);
    text->prepared = tokenizer_.Prepare(text->content);
    const auto source_bytes = static_cast<int64_t>(text->content.size());
    const std::vector<Segment>& segments = text->prepared.segments;
    absl::Status status = SubmitStart();
    // Short neighbours go together, long ones apart.
    size_t first = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < segments.size() && status.ok(); ++i) {
      const bool is_long = segments[i].text.size() > kRangeBytes && tokenizer_.memoryless();
      if (is_long || bytes > kRangeBytes) {
        status = SubmitSegments(text, first, i);
        first = i;
        bytes = 0;
      }
      if (is_long && status.ok()) {
        status = SubmitRanges(text, segments[i].text);
        first = i + 1;
      } else {
        bytes += segments[i].text.size();
      }
    }
    if (status.ok()) status = SubmitSegments(text, first, segments.size());
    return status.ok() ? SubmitEnd(source_bytes) : status;
  }

  absl::Status SubmitStart() {
    return Submit([this](int) {
      Block block;
      block.documents = 1;
      block.ids.push_back(options_.bos);
      return block;
    });
  }

  // Only now is the file done: what is shown counts its bytes, not those of its ranges, which
  // normalising may have changed.
  absl::Status SubmitEnd(int64_t source_bytes) {
    return Submit([source_bytes](int) {
      Block block;
      block.source_bytes = source_bytes;
      return block;
    });
  }

  absl::Status SubmitSegments(const std::shared_ptr<TextFile>& text, size_t first, size_t last) {
    if (first == last) return absl::OkStatus();
    return Submit([this, text, first, last](int thread) {
      Block block;
      for (size_t i = first; i < last; ++i) {
        EncodeWhole(text->prepared.segments[i],
                    benches_[static_cast<size_t>(thread)]->encoder.get(), &block.ids);
      }
      return block;
    });
  }

  absl::Status SubmitRanges(const std::shared_ptr<TextFile>& text, std::string_view whole) {
    absl::Status status;
    for (size_t begin = 0; begin < whole.size() && status.ok();) {
      size_t end = std::min(begin + kRangeBytes, whole.size());
      while (end < whole.size() && IsContinuation(whole[end])) ++end;
      const TextRange range{whole, begin, end};
      status = Submit([this, text, range](int thread) {
        return EncodeOneRange(range, benches_[static_cast<size_t>(thread)]->encoder.get());
      });
      begin = end;
    }
    return status;
  }

  static Block EncodeOneRange(const TextRange& range, Encoder* encoder) {
    Block block;
    block.range = range;
    const size_t marked = std::min(range.begin + kMarkedBytes, range.end);
    block.end = encoder->EncodeRange({range.text, range.begin, marked}, &block.ids, &block.marks);
    if (block.end < range.end) {
      block.end = encoder->EncodeRange({range.text, block.end, range.end}, &block.ids, nullptr);
    }
    return block;
  }

  absl::Status Submit(OrderedPool<Block>::Work work) {
    pool_.Submit(std::move(work));
    return TakeUntil(kPendingPerThread * static_cast<size_t>(pool_.threads()));
  }

  absl::Status TakeUntil(size_t pending) {
    while (pool_.pending() > pending) {
      const absl::Status status = Accept(pool_.Take());
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status Accept(Block block) {
    lines_ += block.lines;
    if (!block.status.ok()) return AtLine(block.status, path_, lines_);
    const size_t known = block.range.has_value() ? Join(&block) : 0;
    const std::span<const int32_t> ids = std::span<const int32_t>(block.ids).subspan(known);
    progress_.bytes_done += block.source_bytes;
    progress_.documents += block.documents;
    progress_.tokens += static_cast<int64_t>(ids.size());
    const absl::Status status = sink_.append(ids);
    if (status.ok()) sink_.show(progress_);
    return status;
  }

  // How many of the block's first ids belong to pieces that the range before has already.
  size_t Join(Block* block) {
    const TextRange& range = *block->range;
    const size_t begin = range.begin == 0 ? 0 : joined_;
    if (begin >= range.end) return block->ids.size();
    const auto mark = std::lower_bound(
        block->marks.begin(), block->marks.end(), begin,
        [](const PieceMark& at, size_t position) { return at.position < position; });
    if (mark != block->marks.end() && mark->position == begin) {
      joined_ = block->end;
      return mark->ids_before;
    }
    block->ids.clear();
    joined_ = joiner_->EncodeRange({range.text, begin, range.end}, &block->ids, nullptr);
    return 0;
  }

  const Tokenizer& tokenizer_;
  const EncodeCorpusOptions& options_;
  const CorpusSink& sink_;
  std::vector<std::unique_ptr<Workbench>> benches_;
  std::unique_ptr<Encoder> joiner_;
  CorpusProgress progress_;
  std::string path_;         // of the .jsonl file whose blocks are pending
  int64_t lines_ = 0;        // of it
  size_t joined_ = 0;        // where the pieces of the last range ended, in its text
  OrderedPool<Block> pool_;  // its threads use what is above
};

}  // namespace

absl::StatusOr<CorpusProgress> EncodeCorpus(const Tokenizer& tokenizer,
                                            const std::vector<CorpusFile>& files,
                                            const EncodeCorpusOptions& options,
                                            const CorpusSink& sink) {
  return CorpusEncoder(tokenizer, options, sink).Run(files);
}

}  // namespace sinkforge::tokenizer
