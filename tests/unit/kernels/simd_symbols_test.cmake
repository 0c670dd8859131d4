# The objects of the wide processor levels must define nothing that another object could share: a weak
# function compiled with AVX-512 might be the copy that the linker keeps (kernels/cpu/simd_kernels.h).
# Called as: cmake -DNM=... -DARCHIVE=... -P simd_symbols_test.cmake
execute_process(COMMAND ${NM} --defined-only -A ${ARCHIVE} OUTPUT_VARIABLE symbols RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${NM} failed on ${ARCHIVE}")
endif()
string(REGEX MATCHALL "[^\n]*simd_avx[^\n]* [WVuGB] [^\n]*" shared "${symbols}")
# Sanitizers add their own.
list(FILTER shared EXCLUDE REGEX "asan|tsan|ubsan|_odr_")
if(shared)
  message(FATAL_ERROR "These symbols can leak into the baseline:\n${shared}")
endif()
string(REGEX MATCHALL "kSimdKernels" tables "${symbols}")
if(NOT tables)
  message(FATAL_ERROR "No table of kernels in ${ARCHIVE}: the check looked at the wrong file")
endif()
