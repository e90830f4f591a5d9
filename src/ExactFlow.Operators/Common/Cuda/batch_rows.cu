#include "elements.cuh"

// The rows of a batch out of examples that lie on the device, in the order of a table: which batch is next is read on the device.
struct BatchArgs
{
    const int *inputs, *targets;    // [examples, length]
    const int *order, *position;    // [batches, rows] of examples; which batch
    int *batch_inputs, *batch_targets;   // [rows, length]
    int rows, length;
};

extern "C" __global__ void __launch_bounds__(256) batch_rows(const BatchArgs g)
{
    const int* order = g.order + (i64)*g.position * g.rows;
    EACH(i, (i64)g.rows * g.length)
    {
        const i64 from = (i64)order[i / g.length] * g.length + i % g.length;
        g.batch_inputs[i] = g.inputs[from];
        g.batch_targets[i] = g.targets[from];
    }
}
