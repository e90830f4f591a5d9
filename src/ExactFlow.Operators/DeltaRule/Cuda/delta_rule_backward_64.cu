#include "delta_rule_grads.cuh"

DELTA_BACKWARD(64)
