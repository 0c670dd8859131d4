// CRC32C (Castagnoli), the checksum of every checkpoint chunk: by the processor's own instruction
// where it has one, by a table otherwise; the same result either way.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sinkforge::checkpoint {

// Of `count` bytes; continues from `previous`, the result for the bytes before them.
uint32_t Crc32c(const void* bytes, size_t count, uint32_t previous = 0);

// The table's result, whatever the processor can do; for tests.
uint32_t Crc32cByTable(const void* bytes, size_t count, uint32_t previous = 0);

}  // namespace sinkforge::checkpoint
