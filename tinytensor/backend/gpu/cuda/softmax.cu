// Softmax, log-softmax and cross-entropy over rows of any length, a block to a row.
//
// The largest logit and the sum of exponentials are found in one pass over the row ("online": Milakov & Gimelshein 2018):
// whenever a thread meets a larger logit it rescales its sum. So cross-entropy reads its logits once, in forward, and its
// backward writes the gradient where the logits were, if nobody else needs them. Its rows may be `stride` elements apart:
// a vocabulary of 50257 is read 16 bytes at a time if its rows lie as if there were 50264, and the last one alone.
#include "primitives.cuh"

template <class R> struct LogSum {
  R highest, sum;  // of exp(x - highest)

  __device__ __forceinline__ void add(R x) {
    if (x > highest) {
      sum *= exponential(highest - x);
      highest = x;
    }
    if (x > R(NEGATIVE_INFINITY)) sum += exponential(x - highest);
  }
};

// The largest element of the block's row, and the logarithm of the sum of exponentials relative to it.
template <int SIZE, class T, class R>
__device__ __forceinline__ void log_sum(const T* row, long long width, R* scratch, R& highest, R& relative) {
  LogSum<R> mine = {R(NEGATIVE_INFINITY), R(0)};
  const long long whole = width / SIZE * SIZE;
  for (long long place = threadIdx.x * SIZE; place < whole; place += blockDim.x * SIZE) {
    R part[SIZE];
    read_part<SIZE>(part, row + place);
    UNROLL for (int e = 0; e < SIZE; e++) mine.add(part[e]);
  }
  if (whole + threadIdx.x < width) mine.add(widen(row[whole + threadIdx.x]));
  highest = over_block<Largest>(mine.highest, R(NEGATIVE_INFINITY), scratch);
  const R rescaled = mine.sum > 0 ? mine.sum * exponential(mine.highest - highest) : R(0);
  relative = logarithm(over_block<Plus>(rescaled, R(0), scratch));
}

template <class T, int SIZE, int LOG>
__global__ void __launch_bounds__(1024) softmax_forward(const T* __restrict__ x, T* __restrict__ y, long long width) {
  typedef Wide<T> R;
  __shared__ R scratch[32];
  x += blockIdx.x * width;
  y += blockIdx.x * width;
  R highest, relative;
  log_sum<SIZE>(x, width, scratch, highest, relative);
  for (long long place = threadIdx.x * SIZE; place < width; place += blockDim.x * SIZE) {
    R part[SIZE];
    read_part<SIZE>(part, x + place);
    UNROLL for (int e = 0; e < SIZE; e++) {
      part[e] = part[e] - highest - relative;
      if (!LOG) part[e] = exponential(part[e]);
    }
    write_part<SIZE>(y + place, part);
  }
}

// softmax: dx = y (dy - sum(y dy));   log-softmax: dx = dy - exp(y) sum(dy)
template <class T, int SIZE, int LOG>
__global__ void __launch_bounds__(1024) softmax_backward(const T* __restrict__ dy, const T* __restrict__ y,
                                                         T* __restrict__ dx, long long width) {
  typedef Wide<T> R;
  __shared__ R scratch[32];
  dy += blockIdx.x * width;
  y += blockIdx.x * width;
  dx += blockIdx.x * width;
  R sum = 0;
  for (long long place = threadIdx.x * SIZE; place < width; place += blockDim.x * SIZE) {
    R d[SIZE], value[SIZE];
    read_part<SIZE>(d, dy + place);
    read_part<SIZE>(value, y + place);
    UNROLL for (int e = 0; e < SIZE; e++) sum += LOG ? d[e] : d[e] * value[e];
  }
  sum = over_block<Plus>(sum, R(0), scratch);
  for (long long place = threadIdx.x * SIZE; place < width; place += blockDim.x * SIZE) {
    R d[SIZE], value[SIZE];
    read_part<SIZE>(d, dy + place);
    read_part<SIZE>(value, y + place);
    UNROLL for (int e = 0; e < SIZE; e++) d[e] = LOG ? d[e] - exponential(value[e]) * sum : value[e] * (d[e] - sum);
    write_part<SIZE>(dx + place, d);
  }
}

// loss = (1 - smoothing) (log Z - z_t) + smoothing (log Z - mean(z)) + z_loss (log Z)^2;  0 where the target is ignored.
template <class T, int SIZE>
__global__ void __launch_bounds__(1024) cross_entropy_forward(
    const T* __restrict__ logits, const long long* __restrict__ targets, Wide<T>* __restrict__ losses,
    Wide<T>* __restrict__ log_sums, long long stride, long long classes, long long ignore_index, double smoothing,
    double z_loss) {
  typedef Wide<T> R;
  __shared__ R scratch[32];
  const long long row = blockIdx.x, target = targets[row];
  logits += row * stride;
  if (target == ignore_index) {
    if (threadIdx.x == 0) losses[row] = 0;
    return;
  }
  R highest, relative, mean = 0;
  log_sum<SIZE>(logits, classes, scratch, highest, relative);
  if (smoothing > 0) {
    R sum = 0;
    for (long long place = threadIdx.x; place < classes; place += blockDim.x) sum += widen(logits[place]) - highest;
    mean = over_block<Plus>(sum, R(0), scratch) / R(classes);
  }
  if (threadIdx.x == 0) {
    // Differences of logits first: next to logits of 1e4 a loss of 0.7 has lost half of its digits.
    const R from_target = highest - widen(logits[target]), log_z = highest + relative;
    losses[row] = relative + R(1 - smoothing) * from_target - R(smoothing) * mean + R(z_loss) * log_z * log_z;
    log_sums[row] = log_z;
  }
}

// dlogits = dloss ((1 + 2 z_loss log Z) exp(z) / Z - (1 - smoothing) onehot(target) - smoothing / V); may be `logits`.
template <class T, int SIZE>
__global__ void __launch_bounds__(1024) cross_entropy_backward(
    const T* logits, const long long* __restrict__ targets, const Wide<T>* __restrict__ dlosses,
    const Wide<T>* __restrict__ log_sums, T* dlogits, long long stride, long long dstride, long long classes,
    long long ignore_index, double smoothing, double z_loss) {
  typedef Wide<T> R;
  const long long row = blockIdx.x, target = targets[row];
  logits += row * stride;
  dlogits += row * dstride;
  const bool counts = target != ignore_index;
  const R d = counts ? dlosses[row] : R(0), log_z = counts ? log_sums[row] : R(0);
  const R factor = d * (R(1) + R(2 * z_loss) * log_z), even = d * R(smoothing) / R(classes);
  auto gradient = [&](R logit, long long place) {
    const R hit = place == target ? d * R(1 - smoothing) : R(0);
    return counts ? factor * exponential(logit - log_z) - hit - even : R(0);
  };
  const long long whole = classes / SIZE * SIZE, last = whole + threadIdx.x;
  for (long long place = threadIdx.x * SIZE; place < whole; place += blockDim.x * SIZE) {
    R part[SIZE];
    read_part<SIZE>(part, logits + place);
    UNROLL for (int e = 0; e < SIZE; e++) part[e] = gradient(part[e], place + e);
    write_part<SIZE>(dlogits + place, part);
  }
  if (last < classes) dlogits[last] = narrow<T>(gradient(widen(logits[last]), last));
}
