#include "short_convolution_backward.cuh"

// After heads of 64 and 128 channels that were scaled to unit length.
BACKWARD(gradient_heads_64, 4, false, 16)
BACKWARD(gradient_heads_128, 4, false, 32)
BACKWARD(gradient_packed_heads_64, 4, true, 16)
BACKWARD(gradient_packed_heads_128, 4, true, 32)
