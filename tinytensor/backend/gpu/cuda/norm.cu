// Layer norm (CENTRE = 1) and RMS norm (0), alone or with the residual addition before them, and the dropout before that.
//
// A block takes a row into its registers (VECTORS parts of SIZE elements to a thread), so the row is read once and
// written once however often it is summed over: the cost is that of a copy. Backward takes many rows to a block, one after
// the other, and keeps each column's share of dweight and dbias in the register of the thread that owns the column; a row
// of sums per block is left for a second, small reduction.
#include "random.cuh"

template <class T, int SIZE, int VECTORS, int CENTRE>
__global__ void __launch_bounds__(512, 1) norm_forward(
    const T* __restrict__ x, const T* __restrict__ branch, T* __restrict__ total, const T* __restrict__ weight,
    const T* __restrict__ bias, T* __restrict__ y, Wide<T>* __restrict__ means, Wide<T>* __restrict__ inverse_stds,
    long long width, double eps, long long threshold, const u64* seed_at, u64 seed) {
  typedef Wide<T> R;
  __shared__ R scratch[32];
  const long long row = blockIdx.x, start = row * width;
  R values[VECTORS][SIZE], sum = 0;
  UNROLL for (int i = 0; i < VECTORS; i++) {
    const int place = (i * blockDim.x + threadIdx.x) * SIZE;
    if (place >= width) break;
    read_part<SIZE>(values[i], x + start + place);
    if (branch) {
      R more[SIZE];
      read_part<SIZE>(more, branch + start + place);
      if (threshold) drop_part<SIZE>(more, start + place, (u32)threshold, seed_of(seed_at, seed));
      // Rounded, as it will be read later.
      UNROLL for (int e = 0; e < SIZE; e++) values[i][e] = widen(narrow<T>(values[i][e] + more[e]));
      write_part<SIZE>(total + start + place, values[i]);
    }
    UNROLL for (int e = 0; e < SIZE; e++) sum += values[i][e];
  }
  const R mean = CENTRE ? over_block<Plus>(sum, R(0), scratch) / R(width) : R(0);
  R squares = 0;
  UNROLL for (int i = 0; i < VECTORS; i++) {
    if ((i * blockDim.x + threadIdx.x) * SIZE >= width) break;
    UNROLL for (int e = 0; e < SIZE; e++) squares += (values[i][e] - mean) * (values[i][e] - mean);
  }
  const R inverse_std = inverse_root(over_block<Plus>(squares, R(0), scratch) / R(width) + R(eps));
  if (threadIdx.x == 0) {
    if (CENTRE) means[row] = mean;
    inverse_stds[row] = inverse_std;
  }
  UNROLL for (int i = 0; i < VECTORS; i++) {
    const int place = (i * blockDim.x + threadIdx.x) * SIZE;
    if (place >= width) break;
    R gain[SIZE], shift[SIZE];
    if (weight) read_part<SIZE>(gain, weight + place);
    if (bias) read_part<SIZE>(shift, bias + place);
    UNROLL for (int e = 0; e < SIZE; e++) {
      const R normed = (values[i][e] - mean) * inverse_std;
      values[i][e] = normed * (weight ? gain[e] : R(1)) + (bias ? shift[e] : R(0));
    }
    write_part<SIZE>(y + start + place, values[i]);
  }
}

// With n = (x - mean) / std and h = dy * weight:   dx = (h - mean(h) - n mean(h n)) / std  (+ dtotal),
// dweight = sum(dy n), dbias = sum(dy), over the rows blockIdx.x, blockIdx.x + gridDim.x, ...  dbranch = dx keep / (1 - p).
template <class T, int SIZE, int VECTORS, int CENTRE>
__global__ void __launch_bounds__(512, 1) norm_backward(
    const T* __restrict__ dtotal, const T* __restrict__ dy, const T* __restrict__ x, const T* __restrict__ weight,
    const Wide<T>* __restrict__ means, const Wide<T>* __restrict__ inverse_stds, T* __restrict__ dx,
    T* __restrict__ dbranch, Wide<T>* __restrict__ dweights, Wide<T>* __restrict__ dbiases, long long rows,
    long long width, long long threshold, const u64* seed_at, u64 seed) {
  typedef Wide<T> R;
  __shared__ R scratch[32];
  R dweight[VECTORS][SIZE] = {}, dbias[VECTORS][SIZE] = {};
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    const long long start = row * width;
    const R mean = CENTRE ? means[row] : R(0), inverse_std = inverse_stds[row];
    R normed[VECTORS][SIZE], h[VECTORS][SIZE], h_sum = 0, hn_sum = 0;
    UNROLL for (int i = 0; i < VECTORS; i++) {
      const int place = (i * blockDim.x + threadIdx.x) * SIZE;
      if (place >= width) break;
      R gain[SIZE];
      read_part<SIZE>(normed[i], x + start + place);
      read_part<SIZE>(h[i], dy + start + place);
      if (weight) read_part<SIZE>(gain, weight + place);
      UNROLL for (int e = 0; e < SIZE; e++) {
        normed[i][e] = (normed[i][e] - mean) * inverse_std;
        dweight[i][e] += h[i][e] * normed[i][e];
        dbias[i][e] += h[i][e];
        if (weight) h[i][e] *= gain[e];
        h_sum += h[i][e];
        hn_sum += h[i][e] * normed[i][e];
      }
    }
    const R h_mean = CENTRE ? over_block<Plus>(h_sum, R(0), scratch) / R(width) : R(0);
    const R hn_mean = over_block<Plus>(hn_sum, R(0), scratch) / R(width);
    UNROLL for (int i = 0; i < VECTORS; i++) {
      const int place = (i * blockDim.x + threadIdx.x) * SIZE;
      if (place >= width) break;
      R more[SIZE];
      if (dtotal) read_part<SIZE>(more, dtotal + start + place);
      UNROLL for (int e = 0; e < SIZE; e++) {
        h[i][e] = (h[i][e] - h_mean - normed[i][e] * hn_mean) * inverse_std + (dtotal ? more[e] : R(0));
      }
      write_part<SIZE>(dx + start + place, h[i]);
      if (dbranch) {
        drop_part<SIZE>(h[i], start + place, (u32)threshold, seed_of(seed_at, seed));
        write_part<SIZE>(dbranch + start + place, h[i]);
      }
    }
  }
  UNROLL for (int i = 0; i < VECTORS; i++) {
    UNROLL for (int e = 0; e < SIZE; e++) {
      const int place = (i * blockDim.x + threadIdx.x) * SIZE + e;
      if (place >= width) break;
      if (dweights) dweights[blockIdx.x * width + place] = dweight[i][e];
      if (dbiases) dbiases[blockIdx.x * width + place] = dbias[i][e];
    }
  }
}
