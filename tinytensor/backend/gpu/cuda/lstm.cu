// One step of an LSTM, apart from its matrix products: gates, cell, clipping and padding, one thread for each number of the
// cell. The products of all inputs with w_x are one matrix product before the loop; h @ w_h is one a step.
#include "primitives.cuh"

template <class R> __device__ __forceinline__ R sigmoid(R x) { return R(1) / (R(1) + exponential(-x)); }
__device__ __forceinline__ float hyperbolic(float x) { return tanhf(x); }
__device__ __forceinline__ double hyperbolic(double x) { return tanh(x); }
template <class R> __device__ __forceinline__ R clipped(R x, R limit) {
  return limit > 0 ? (x > limit ? limit : x < -limit ? -limit : x) : x;
}

// gates (B, 4H): i, f, g, o before their nonlinearities, recurrent (B, 4H) to be added; gates leave activated.
// c = clip(f c_before + i g);  m = o tanh(c). A padded row (mask 0) keeps its state. h_before and h are null with a
// projection, which makes h from m; then lstm_project finishes the step.
template <class T>
__global__ void __launch_bounds__(256) lstm_forward(
    T* __restrict__ gates, const T* __restrict__ recurrent, const T* __restrict__ c_before, T* __restrict__ c,
    T* __restrict__ tanh_c, T* __restrict__ m, const T* __restrict__ h_before, T* __restrict__ h,
    const unsigned char* __restrict__ mask, long long rows, long long hidden, double cell_clip) {
  typedef Wide<T> R;
  const long long place = blockIdx.x * 256ll + threadIdx.x;
  if (place >= rows * hidden) return;
  const long long row = place / hidden, unit = place % hidden, gate = row * 4 * hidden + unit;
  R a[4];
  UNROLL for (int n = 0; n < 4; n++) {
    a[n] = widen(gates[gate + n * hidden]) + widen(recurrent[gate + n * hidden]);
    a[n] = n == 2 ? R(hyperbolic(a[n])) : sigmoid(a[n]);
    gates[gate + n * hidden] = narrow<T>(a[n]);
  }
  const bool counts = !mask || mask[row];
  const R before = widen(c_before[place]);
  const R cell = clipped(a[1] * before + a[0] * a[2], R(cell_clip));
  const R squashed = hyperbolic(cell), out = a[3] * squashed;
  c[place] = counts ? narrow<T>(cell) : c_before[place];
  tanh_c[place] = narrow<T>(squashed);
  m[place] = narrow<T>(out);
  if (h) h[place] = counts ? narrow<T>(out) : h_before[place];
}

// h = clip(projected), or the state before where the row is padded.
template <class T>
__global__ void __launch_bounds__(256) lstm_project(
    const T* __restrict__ projected, const T* __restrict__ h_before, T* __restrict__ h,
    const unsigned char* __restrict__ mask, long long rows, long long width, double proj_clip) {
  const long long place = blockIdx.x * 256ll + threadIdx.x;
  if (place >= rows * width) return;
  const bool counts = !mask || mask[place / width];
  h[place] = counts ? narrow<T>(clipped(widen(projected[place]), Wide<T>(proj_clip))) : h_before[place];
}

// dm (B, H) is the gradient of m. dc holds the gradient of c from the step after, and leaves as that of c_before; a padded
// row passes it on and has no gradients of gates.
template <class T>
__global__ void __launch_bounds__(256) lstm_backward(
    const T* __restrict__ gates, const T* __restrict__ tanh_c, const T* __restrict__ c_before, const T* __restrict__ c,
    const T* __restrict__ dm, T* __restrict__ dc, T* __restrict__ dgates, const unsigned char* __restrict__ mask,
    long long rows, long long hidden, double cell_clip) {
  typedef Wide<T> R;
  const long long place = blockIdx.x * 256ll + threadIdx.x;
  if (place >= rows * hidden) return;
  const long long row = place / hidden, unit = place % hidden, gate = row * 4 * hidden + unit;
  const bool counts = !mask || mask[row];
  const R i = widen(gates[gate]), f = widen(gates[gate + hidden]), g = widen(gates[gate + 2 * hidden]),
          o = widen(gates[gate + 3 * hidden]), squashed = widen(tanh_c[place]), d = widen(dm[place]);
  R d_cell = widen(dc[place]) + d * o * (1 - squashed * squashed);
  const R cell = widen(c[place]);
  if (cell_clip > 0 && (cell >= R(cell_clip) || cell <= R(-cell_clip))) d_cell = 0;
  const R none = 0;
  dgates[gate] = narrow<T>(counts ? d_cell * g * i * (1 - i) : none);
  dgates[gate + hidden] = narrow<T>(counts ? d_cell * widen(c_before[place]) * f * (1 - f) : none);
  dgates[gate + 2 * hidden] = narrow<T>(counts ? d_cell * i * (1 - g * g) : none);
  dgates[gate + 3 * hidden] = narrow<T>(counts ? d * squashed * o * (1 - o) : none);
  if (counts) dc[place] = narrow<T>(d_cell * f);
}

// dh += dy; what goes into this step (dout: zero where padded or clipped) and what passes it by (rest: where padded).
template <class T>
__global__ void __launch_bounds__(256) lstm_split(
    const T* __restrict__ dh, const T* __restrict__ dy, const T* __restrict__ h, T* __restrict__ dout,
    T* __restrict__ rest, const unsigned char* __restrict__ mask, long long rows, long long width, double proj_clip) {
  typedef Wide<T> R;
  const long long place = blockIdx.x * 256ll + threadIdx.x;
  if (place >= rows * width) return;
  const bool counts = !mask || mask[place / width];
  R d = widen(dh[place]);
  if (dy && counts) d += widen(dy[place]);
  const R value = widen(h[place]);
  const bool passes = !(proj_clip > 0) || (value < R(proj_clip) && value > R(-proj_clip));
  dout[place] = narrow<T>(counts && passes ? d : R(0));
  rest[place] = narrow<T>(counts ? R(0) : d);
}
