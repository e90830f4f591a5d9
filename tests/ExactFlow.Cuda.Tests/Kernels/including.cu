#include "shared.cuh"
// kernel
int kernel_value();
#include "shared.cuh"
