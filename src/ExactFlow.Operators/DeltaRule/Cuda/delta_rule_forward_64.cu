#include "delta_rule_prepare.cuh"
#include "delta_rule_forward.cuh"

DELTA_PREPARE(64)
DELTA_FORWARD(64)
