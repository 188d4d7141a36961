// Reading and writing parts of a row: SIZE neighbouring elements at once, as one 16-byte access where SIZE > 1.
#pragma once
#include "primitives.cuh"

template <int SIZE, class T> __device__ __forceinline__ void read_part(Wide<T> (&into)[SIZE], const T* from) {
  if constexpr (SIZE == 1) {
    into[0] = widen(*from);
  } else {
    const Vector<T> part = *reinterpret_cast<const Vector<T>*>(from);
    UNROLL for (int e = 0; e < SIZE; e++) into[e] = widen(part.at[e]);
  }
}
template <int SIZE, class T> __device__ __forceinline__ void write_part(T* to, const Wide<T> (&values)[SIZE]) {
  if constexpr (SIZE == 1) {
    *to = narrow<T>(values[0]);
  } else {
    Vector<T> part;
    UNROLL for (int e = 0; e < SIZE; e++) part.at[e] = narrow<T>(values[e]);
    *reinterpret_cast<Vector<T>*>(to) = part;
  }
}

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }
__device__ __forceinline__ float logarithm(float x) { return logf(x); }
__device__ __forceinline__ double logarithm(double x) { return log(x); }
__device__ __forceinline__ float inverse_root(float x) { return rsqrtf(x); }
__device__ __forceinline__ double inverse_root(double x) { return rsqrt(x); }
