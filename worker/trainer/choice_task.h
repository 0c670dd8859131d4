// ChoiceTask: a file of multiple-choice items, one JSON object a line, told apart by their keys:
//   {"query": "...", "choices": ["...", ...], "gold": 1}            the choice that goes on best
//   {"context_options": ["...", ...], "continuation": "...", "gold": 0}   Winograd schemas: the
//                                             context that the continuation goes on from best
//   {"ctx": "...", "endings": ["...", ...], "label": 3}             HellaSwag's own files
// Other keys may be there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/status.h"

namespace sinkforge::trainer {

struct ChoiceItem {
  struct Option {
    std::string context;
    std::string continuation;
  };
  int64_t line = 0;             // of the file, from 1
  std::vector<Option> options;  // two at least
  int64_t gold = 0;
};

// The first `items_max` items. kNotFound: there is no such file; kFailedPrecondition: it cannot be
// read; kInvalidData names file and line: not a JSON object, not UTF-8, longer than 1 MiB, keys
// missing or of another type, fewer than two options, gold outside them; or a file without items.
kernels::Result<std::vector<ChoiceItem>> ReadChoiceTask(const std::string& path,
                                                        std::optional<int64_t> items_max);

}  // namespace sinkforge::trainer
