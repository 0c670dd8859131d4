# Finds NVIDIA's compiler and enables the CUDA language; included by the root CMakeLists.txt with
# SINKFORGE_CUDA. Code is made for compute capability 8.0 and 9.0a alone (no PTX): the two kinds of
# machine that the kernels are tuned for.

# CMake looks for nvcc on PATH only, and NVIDIA's installer does not put it there.
if(NOT DEFINED CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  find_program(SINKFORGE_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda
               PATH_SUFFIXES bin)
  if(SINKFORGE_NVCC)
    set(CMAKE_CUDA_COMPILER ${SINKFORGE_NVCC})
  endif()
endif()
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(FATAL_ERROR
    "SINKFORGE_CUDA is on, but nvcc was not found on PATH or in /usr/local/cuda/bin. Set CUDACXX "
    "to it, or use the preset `release`, which needs no CUDA.")
endif()

if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES "80-real;90a-real")
endif()
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
  message(FATAL_ERROR
    "CUDA ${CMAKE_CUDA_COMPILER_VERSION} is too old: C++20 and sm_90a need 12.0 or newer.")
endif()

set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
# CMake 3.25 has no entry for nvcc's C++20 dialect, and an unset CUDA standard falls back to the C++
# one, so the entry is made here. Newer versions of CMake have it.
if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
find_package(CUDAToolkit REQUIRED)
message(STATUS "CUDA ${CUDAToolkit_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
