// What distinguishes the families of tokenizers that can be trained.
#pragma once

#include "tokenizer/bpe_trainer.h"

namespace sinkforge::tokenizer {

struct Family {
  const char* pattern;
  bool nfc;            // normalises its text
  bool own_split;      // the pattern is in the file; else it is ByteLevel's own
  bool ignore_merges;  // a piece that is a token is taken whole
};

Family FamilyOf(PatternFamily family);

}  // namespace sinkforge::tokenizer
