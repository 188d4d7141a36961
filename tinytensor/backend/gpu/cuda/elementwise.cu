// GELU with its slope, the product with it, and dropout, element by element: SIZE elements to a thread.
#include "random.cuh"

__device__ __forceinline__ float normal_cdf(float x) { return 0.5f * erfcf(-x * 0.70710678f); }
__device__ __forceinline__ double normal_cdf(double x) { return 0.5 * erfc(-x * 0.7071067811865476); }

// exact:  y = x Phi(x), slope = Phi(x) + x exp(-x^2 / 2) / sqrt(2 pi)
// tanh:   y = x s, s = sigmoid(2 (a x + b x^3)), slope = s + x s (1 - s) (2 a + 6 b x^2)
// `bias`, if any, is added to x first; it repeats after `width` elements.
template <class T, int SIZE, int APPROXIMATE>
__global__ void __launch_bounds__(256) gelu_forward(const T* __restrict__ x, const T* __restrict__ bias,
                                                    T* __restrict__ y, T* __restrict__ slope, long long size,
                                                    long long width) {
  typedef Wide<T> R;
  const R a = R(0.7978845608028654), b = R(0.035677408136300125);
  const long long place = (blockIdx.x * 256ll + threadIdx.x) * SIZE;
  if (place >= size) return;
  R values[SIZE], slopes[SIZE], shift[SIZE];
  read_part<SIZE>(values, x + place);
  if (bias) read_part<SIZE>(shift, bias + place % width);
  UNROLL for (int e = 0; e < SIZE; e++) {
    const R v = values[e] + (bias ? shift[e] : R(0));
    if (APPROXIMATE) {
      const R s = R(1) / (R(1) + exponential(R(-2) * (a * v + b * v * v * v)));
      values[e] = v * s;
      slopes[e] = s + (s > 0 && s < 1 ? v * s * (1 - s) * (2 * a + 6 * b * v * v) : R(0));
    } else {
      const R phi = normal_cdf(v);
      values[e] = v * phi;
      slopes[e] = phi + v * exponential(R(-0.5) * v * v) * R(0.3989422804014327);
    }
  }
  write_part<SIZE>(y + place, values);
  if (slope) write_part<SIZE>(slope + place, slopes);
}

// y = a b, one element with one. (CuPy's own product of 16-bit numbers reads two bytes at a time.)
template <class T, int SIZE>
__global__ void __launch_bounds__(256) multiply(const T* __restrict__ a, const T* __restrict__ b, T* __restrict__ y,
                                                long long size) {
  const long long place = (blockIdx.x * 256ll + threadIdx.x) * SIZE;
  if (place >= size) return;
  Wide<T> values[SIZE], factors[SIZE];
  read_part<SIZE>(values, a + place);
  read_part<SIZE>(factors, b + place);
  UNROLL for (int e = 0; e < SIZE; e++) values[e] *= factors[e];
  write_part<SIZE>(y + place, values);
}

// y = x keep / (1 - p). Backward is the same function of dy.
template <class T, int SIZE>
__global__ void __launch_bounds__(256) dropout(const T* __restrict__ x, T* __restrict__ y, long long size,
                                               long long threshold, const u64* seed_at, u64 seed) {
  const long long place = (blockIdx.x * 256ll + threadIdx.x) * SIZE;
  if (place >= size) return;
  Wide<T> values[SIZE];
  read_part<SIZE>(values, x + place);
  drop_part<SIZE>(values, place, (u32)threshold, seed_of(seed_at, seed));
  write_part<SIZE>(y + place, values);
}
