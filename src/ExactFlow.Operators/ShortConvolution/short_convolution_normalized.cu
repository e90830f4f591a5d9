#include "short_convolution_forward.cuh"

// Heads of 64 and 128 channels are scaled to unit length before they are written.
FORWARD(convolve_heads_64, 4, false, 16)
FORWARD(convolve_heads_128, 4, false, 32)
FORWARD(convolve_packed_heads_64, 4, true, 16)
FORWARD(convolve_packed_heads_128, 4, true, 32)
