// The index types of a launch, as the CUDA runtime names them.
#pragma once

struct dim3 {
  constexpr dim3(unsigned x_size = 1, unsigned y_size = 1, unsigned z_size = 1)
      : x(x_size), y(y_size), z(z_size) {}
  unsigned x, y, z;
};
struct uint3 {
  unsigned x, y, z;
};
