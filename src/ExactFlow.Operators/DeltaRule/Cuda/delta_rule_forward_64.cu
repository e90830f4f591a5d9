#include "delta_rule_forward.cuh"

DELTA_FORWARD(64)
