// TokenStream: tokens that can be read at exact positions: a data set's, or a text's that was
// tokenized in memory.
#pragma once

#include <cstdint>
#include <optional>

namespace sinkforge::trainer {

class TokenStream {
 public:
  virtual ~TokenStream() = default;
  virtual int64_t tokens() const = 0;
  // `count` tokens from position `first` of the stream.
  virtual void ReadTokens(int64_t first, int64_t count, int32_t* tokens) const = 0;
  // Bytes that a target token stands for; absent where nobody knows, as of a .bin without its
  // sidecar.
  virtual std::optional<int64_t> TokenBytes(int32_t token) const = 0;
};

}  // namespace sinkforge::trainer
