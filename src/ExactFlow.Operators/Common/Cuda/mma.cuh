#include "bf16.cuh"

// Warp-level pieces: matrix fragments between shared memory and the tensor cores (sm_80 on), asynchronous copies.

#ifndef EXACTFLOW_EMULATION
__device__ __forceinline__ u32 smem_u32(const void* p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void ldm4(u32 (&r)[4], const bf16* p)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(smem_u32(p)));
}
__device__ __forceinline__ void ldm4t(u32 (&r)[4], const bf16* p)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(smem_u32(p)));
}
// d[16 x 8] += a[16 x 16] b[16 x 8].
__device__ __forceinline__ void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Asynchronous copy of 16 bytes from global to shared memory; zeros where `valid` is false.
__device__ __forceinline__ void cp16(void* s, const void* g, bool valid)
{
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem_u32(s)), "l"(g), "r"(bytes));
}
__device__ __forceinline__ void cp_commit() { asm volatile("cp.async.commit_group;"); }
template <int N> __device__ __forceinline__ void cp_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }
#endif

// Lane addressing of the four 8x8 matrices that ldmatrix.x4 loads.
// A operand 16x16 at (row0, k0), stored [row][k] (N) or [k][row] (T):
template <int LD> __device__ __forceinline__ void load_a(u32 (&a)[4], const bf16* s, int row0, int k0, int lane)
{
    ldm4(a, s + (row0 + (lane & 15)) * LD + k0 + (lane >> 4) * 8);
}
template <int LD> __device__ __forceinline__ void load_at(u32 (&a)[4], const bf16* s, int row0, int k0, int lane)
{
    ldm4t(a, s + (k0 + (lane & 7) + ((lane >> 4) & 1) * 8) * LD + row0 + ((lane >> 3) & 1) * 8);
}
// B operand 16x16 (two n-tiles) at (k0, col0), stored [k][col] (N) or [col][k] (T): b[0],b[1] tile 0; b[2],b[3] tile 1.
template <int LD> __device__ __forceinline__ void load_b(u32 (&b)[4], const bf16* s, int k0, int col0, int lane)
{
    ldm4t(b, s + (k0 + (lane & 15)) * LD + col0 + (lane >> 4) * 8);
}
template <int LD> __device__ __forceinline__ void load_bt(u32 (&b)[4], const bf16* s, int k0, int col0, int lane)
{
    ldm4(b, s + (col0 + (lane & 7) + (lane >> 4) * 8) * LD + k0 + ((lane >> 3) & 1) * 8);
}

#ifndef EXACTFLOW_EMULATION
__device__ __forceinline__ u32 tf32(float x) { u32 r; asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x)); return r; }
// d[16 x 8] += a[16 x 8] b[8 x 8].
__device__ __forceinline__ void mma_tf32(float (&d)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1)
{
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
#endif
// 16 x 16 += 16 x 16 times 16 x 16 from float32 in shared memory, operands rounded to tf32.
__device__ __forceinline__ void mma_tf32_16(float (&d)[2][4], const float* a, int lda, const float* b, int ldb, int lane)
{
    int r = lane >> 2, c = lane & 3;
    for (int k0 = 0; k0 < 16; k0 += 8)
    {
        u32 a0 = tf32(a[r * lda + k0 + c]), a1 = tf32(a[(r + 8) * lda + k0 + c]), a2 = tf32(a[r * lda + k0 + c + 4]), a3 = tf32(a[(r + 8) * lda + k0 + c + 4]);
        for (int n = 0; n < 2; n++)
        {
            u32 b0 = tf32(b[(k0 + c) * ldb + n * 8 + r]), b1 = tf32(b[(k0 + c + 4) * ldb + n * 8 + r]);
            mma_tf32(d[n], a0, a1, a2, a3, b0, b1);
        }
    }
}
