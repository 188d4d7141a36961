// What every kernel builds on: types, the tensor core, asynchronous copies, sums over a warp and over a block.
//
// All inline PTX of the project stands here, each piece beside the emulator's version of it, so that the other files are
// the same text for NVRTC and for g++ (the tests run them on the CPU).
#pragma once
#ifndef EMULATED
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#endif

typedef unsigned int u32;
typedef unsigned long long u64;

constexpr u32 FULL_WARP = 0xffffffffu;
constexpr float LOG2_E = 1.4426950408889634f;
#define NEGATIVE_INFINITY __int_as_float(0xff800000)  // NVRTC has no INFINITY
#define POSITIVE_INFINITY __int_as_float(0x7f800000)
#define UNROLL _Pragma("unroll")  // before a loop of known length: written out, so that its arrays lie in registers

#ifdef EMULATED

#define DYNAMIC_SHARED(name) unsigned char* name = ::emulator::machine.shared
#define CALL_SITE , int line = __builtin_LINE()

inline void multiply_add(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2], __half CALL_SITE) {
  emulator::tensor_core(emulator::product_half, c, a, b, line);
}
inline void multiply_add(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2], __nv_bfloat16 CALL_SITE) {
  emulator::tensor_core(emulator::product_bfloat16, c, a, b, line);
}
inline void multiply_add_int8(int (&c)[4], const u32 (&a)[4], const u32 (&b)[2] CALL_SITE) {
  emulator::tensor_core(emulator::product_int8, c, a, b, line);
}
template <bool TRANSPOSED> inline void load_matrices(u32 (&r)[4], const void* row CALL_SITE) {
  emulator::ldmatrix<TRANSPOSED>(r, row, line);
}
inline void copy_async(void* shared, const void* global, bool valid CALL_SITE) {
  emulator::copy_async(shared, global, valid ? 16 : 0, line);
}
inline void commit_copies() { emulator::commit_copies(); }
template <int GROUPS_LEFT> inline void wait_for_copies() { emulator::wait_for_copies(GROUPS_LEFT); }
inline void store_at_once(uint4* to, uint4 value) { *to = value; }
inline float fast_exp2(float x) { return exp2f(x); }
inline float fast_log2(float x) { return log2f(x); }

#else

#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// c (16 x 8) += a (16 x 16) b (16 x 8), spread over the registers of a warp; the last argument only names the type.
#define DEFINE_MULTIPLY_ADD(T, NAME)                                                                          \
  __device__ __forceinline__ void multiply_add(float(&c)[4], const u32(&a)[4], const u32(&b)[2], T) {         \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." NAME "." NAME                                       \
                 ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"                               \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                             \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                         \
  }
DEFINE_MULTIPLY_ADD(__half, "f16")
DEFINE_MULTIPLY_ADD(__nv_bfloat16, "bf16")

// The same for integers: c (16 x 8) += a (16 x 32) b (32 x 8), four to a register. A GPU before the A100 multiplies 8 x 16
// by 16 x 8 at once, of which that is four.
__device__ __forceinline__ void multiply_add_int8(int (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
#if __CUDA_ARCH__ < 800
  UNROLL for (int part = 0; part < 4; part++) {
    const int rows = part % 2, depth = part / 2;
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};\n"
                 : "+r"(c[2 * rows]), "+r"(c[2 * rows + 1]) : "r"(a[part]), "r"(b[depth]));
  }
#else
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
               : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Four 8 x 8 matrices of 16-bit numbers from shared memory: lane 8 m + i gives the address of row i of matrix m.
template <bool TRANSPOSED> __device__ __forceinline__ void load_matrices(u32 (&r)[4], const void* row) {
  if (TRANSPOSED) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
  }
}

// 16 bytes from global to shared memory without passing through registers; zeros if not valid.
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n"
               :: "r"(shared_address(shared)), "l"(global), "r"(valid ? 16 : 0) : "memory");
}
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}
template <int GROUPS_LEFT> __device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;\n" :: "n"(GROUPS_LEFT) : "memory");
}
__device__ __forceinline__ void store_at_once(uint4* to, uint4 value) { __stwb(to, value); }
__device__ __forceinline__ float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float fast_log2(float x) { return __log2f(x); }

#endif

// ---- types: everything is computed in `Wide<T>`, float for the 16-bit types ----
template <class T> struct WideType { typedef float type; };
template <> struct WideType<double> { typedef double type; };
template <class T> using Wide = typename WideType<T>::type;

__device__ __forceinline__ float widen(__half x) { return __half2float(x); }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }

template <class T> __device__ __forceinline__ T narrow(Wide<T> x) { return x; }
template <> __device__ __forceinline__ __half narrow<__half>(float x) { return __float2half_rn(x); }
template <> __device__ __forceinline__ __nv_bfloat16 narrow<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }

// Two numbers side by side in a register, the form in which the tensor core takes them.
template <class T> __device__ __forceinline__ u32 pack(float a, float b);
template <> __device__ __forceinline__ u32 pack<__half>(float a, float b) {
  __half2 both = __floats2half2_rn(a, b);
  return reinterpret_cast<u32&>(both);
}
template <> __device__ __forceinline__ u32 pack<__nv_bfloat16>(float a, float b) {
  __nv_bfloat162 both = __floats2bfloat162_rn(a, b);
  return reinterpret_cast<u32&>(both);
}

// 16 bytes' worth of T: one load instruction. The address must be a multiple of 16.
template <class T> struct alignas(16) Vector {
  static constexpr int SIZE = 16 / sizeof(T);
  T at[SIZE];
};

// Parts of a row: SIZE neighbouring elements at once, as one such access where SIZE > 1.
template <int SIZE, class T> __device__ __forceinline__ void read_part(Wide<T> (&into)[SIZE], const T* from) {
  if constexpr (SIZE == 1) {
    into[0] = widen(*from);
  } else {
    const Vector<T> part = *reinterpret_cast<const Vector<T>*>(from);
    UNROLL for (int e = 0; e < SIZE; e++) into[e] = widen(part.at[e]);
  }
}
// SIZE neighbours that are wide already: of 16-bit numbers' sums two such accesses.
template <int SIZE, class R> __device__ __forceinline__ void read_sums(R (&into)[SIZE], const R* from) {
  constexpr int STEP = SIZE < Vector<R>::SIZE ? 1 : Vector<R>::SIZE;
  UNROLL for (int start = 0; start < SIZE; start += STEP) {
    R part[STEP];
    read_part<STEP, R>(part, from + start);
    UNROLL for (int e = 0; e < STEP; e++) into[start + e] = part[e];
  }
}
// AT_ONCE: where NVRTC, left to itself, makes four stores of one; the loads behind it must not depend on it.
template <int SIZE, class T, bool AT_ONCE = false>
__device__ __forceinline__ void write_part(T* to, const Wide<T> (&values)[SIZE]) {
  if constexpr (SIZE == 1) {
    *to = narrow<T>(values[0]);
  } else {
    static_assert(SIZE == Vector<T>::SIZE, "");
    uint4 part;
    if constexpr (sizeof(T) == 2) {
      part = make_uint4(pack<T>(values[0], values[1]), pack<T>(values[2], values[3]), pack<T>(values[4], values[5]),
                        pack<T>(values[6], values[7]));
    } else {
      part = reinterpret_cast<const uint4&>(values);
    }
    if (AT_ONCE) {
      store_at_once(reinterpret_cast<uint4*>(to), part);
    } else {
      *reinterpret_cast<uint4*>(to) = part;
    }
  }
}

// SIZE sums into neighbours of any type, as few such accesses as it takes.
template <int SIZE, class Out, class R> __device__ __forceinline__ void write_sums(Out* to, const R (&sums)[SIZE]) {
  constexpr int STEP = SIZE % Vector<Out>::SIZE ? 1 : Vector<Out>::SIZE;
  UNROLL for (int start = 0; start < SIZE; start += STEP) {
    Wide<Out> part[STEP];
    UNROLL for (int e = 0; e < STEP; e++) part[e] = sums[start + e];
    write_part<STEP>(to + start, part);
  }
}

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }
__device__ __forceinline__ float logarithm(float x) { return logf(x); }
__device__ __forceinline__ double logarithm(double x) { return log(x); }
__device__ __forceinline__ float inverse_root(float x) { return rsqrtf(x); }
__device__ __forceinline__ double inverse_root(double x) { return rsqrt(x); }

// ---- sums and maxima over the lanes of a warp, and over a block ----
struct Plus {
  template <class R> static __device__ __forceinline__ R of(R a, R b) { return a + b; }
};
struct Largest {
  template <class R> static __device__ __forceinline__ R of(R a, R b) { return a > b ? a : b; }
};

template <class Operation, int LANES = 32, class R> __device__ __forceinline__ R over_lanes(R value) {
  UNROLL for (int distance = LANES / 2; distance > 0; distance /= 2) {
    value = Operation::of(value, __shfl_xor_sync(FULL_WARP, value, distance));
  }
  return value;
}

// Every thread gets the result. `scratch` holds one value per warp and may be reused as soon as this returns.
template <class Operation, class R> __device__ __forceinline__ R over_block(R value, R nothing, R* scratch) {
  int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  value = over_lanes<Operation>(value);
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  value = over_lanes<Operation>(lane < warps ? scratch[lane] : nothing);
  __syncthreads();
  return value;
}
