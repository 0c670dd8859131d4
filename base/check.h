// SINKFORGE_REQUIRE: only a bug can make it fail; kept in release builds. (kernels/status.h has its
// own for the subset that must build alone.)
#pragma once

#include <cstdio>
#include <cstdlib>

#define SINKFORGE_REQUIRE(condition)                                                           \
  do {                                                                                         \
    if (!(condition)) {                                                                        \
      std::fprintf(stderr, "%s:%d: requirement failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                            \
    }                                                                                          \
  } while (false)
