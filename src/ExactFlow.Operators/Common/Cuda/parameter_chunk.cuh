#include "elements.cuh"

// A piece of a parameter that has a gradient, as CudaParameterTable lists them: at most 8,192 elements, the work of one block.
struct ParameterChunk
{
    const float* gradient;
    float* value;
    float* first;
    float* second;
    bf16* working;    // null: no copy in bfloat16
    int length;
    int decays;
};

// What a step of the optimizer is told, and what it finds out; CudaStepState.
struct StepState
{
    double norm;            // of the scaled gradients, before clipping
    float factor;           // for every gradient: the scale, times what clips
    int is_finite;          // whether the norm is: if not, nothing may be changed
    float step_size;        // learning rate / (1 - beta1^t)
    float root_correction;  // 1 / sqrt(1 - beta2^t)
    float shrink;           // 1 - learning rate * weight decay
    int unused;
};
