// Optimizer steps over all parameters of a model as one long array, in one launch, and the squared length of a gradient.
//
// In mixed precision the parameters that are updated are float32 and the ones the model computes with a rounded copy, which
// is written in the same pass.
#include "primitives.cuh"

// What `judge` leaves for the updates: they happen only where all was finite, with gradients times SCALE.
constexpr int LOSS = 0, NORM = 1, SCALE = 2, FINITE = 3;

// m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  p = (1 - lr weight_decay) p - rate m / (sqrt(v) + guard)
// with rate = lr sqrt(1 - beta2^t) / (1 - beta1^t) and guard = eps sqrt(1 - beta2^t): the bias corrections, multiplied out.
template <class R, class G, class Copy>
__global__ void __launch_bounds__(256) adamw(
    R* __restrict__ params, const G* __restrict__ grads, R* __restrict__ m, R* __restrict__ v, Copy* __restrict__ copy,
    long long size, long long decayed, double rate, double beta1, double beta2, double guard, double decay,
    const double* verdict, double grad_scale) {
  if (verdict && !verdict[FINITE]) return;
  if (verdict) grad_scale = verdict[SCALE];
  const R b1 = R(beta1), b2 = R(beta2);
  for (long long i = blockIdx.x * 256ll + threadIdx.x; i < size; i += gridDim.x * 256ll) {
    const R g = R(widen(grads[i])) * R(grad_scale);
    const R first = b1 * m[i] + (1 - b1) * g;
    const R second = b2 * v[i] + (1 - b2) * g * g;
    const R kept = i < decayed ? params[i] * R(decay) : params[i];
    const R p = kept - R(rate) * first / (R(sqrt(second)) + R(guard));
    m[i] = first;
    v[i] = second;
    params[i] = p;
    if (copy) copy[i] = narrow<Copy>(p);
  }
}

// g = grad_scale grads + weight_decay p;  u = momentum u + g;  p -= lr (nesterov ? g + momentum u : u)
template <class R, class G, class Copy>
__global__ void __launch_bounds__(256) sgd(R* __restrict__ params, const G* __restrict__ grads, R* __restrict__ velocity,
                                           Copy* __restrict__ copy, long long size, long long decayed, double lr,
                                           double momentum, long long nesterov, double weight_decay,
                                           const double* verdict, double grad_scale) {
  if (verdict && !verdict[FINITE]) return;
  if (verdict) grad_scale = verdict[SCALE];
  for (long long i = blockIdx.x * 256ll + threadIdx.x; i < size; i += gridDim.x * 256ll) {
    R g = R(widen(grads[i])) * R(grad_scale);
    if (i < decayed) g += R(weight_decay) * params[i];
    if (velocity) {
      const R u = R(momentum) * velocity[i] + g;
      velocity[i] = u;
      g = nesterov ? g + R(momentum) * u : u;
    }
    const R p = params[i] - R(lr) * g;
    params[i] = p;
    if (copy) copy[i] = narrow<Copy>(p);
  }
}

// One sum of squares for each block, in double: adding those up is a second step without a word from the CPU.
template <class T>
__global__ void __launch_bounds__(256) squared_norm(const T* __restrict__ x, double* __restrict__ sums, long long size) {
  __shared__ double scratch[32];
  double total = 0;
  Wide<T> sum = 0;
  int added = 0;
  for (long long i = blockIdx.x * 256ll + threadIdx.x; i < size; i += gridDim.x * 256ll) {
    const Wide<T> value = widen(x[i]);
    sum += value * value;
    if (++added == 64) {  // short sums in float, their sum in double
      total += sum;
      sum = 0;
      added = 0;
    }
  }
  total = over_block<Plus>(total + (double)sum, 0.0, scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

// From the sums of squares and the loss: is the step sound, and were those before it? And by what are gradients multiplied
// that may have the length `clip` (0: any)?
template <int THREADS>
__global__ void __launch_bounds__(THREADS) judge(const double* __restrict__ sums, long long count,
                                                 const double* __restrict__ loss, const double* __restrict__ before,
                                                 double* __restrict__ verdict, double clip) {
  __shared__ double scratch[32];
  double total = 0;
  for (int i = threadIdx.x; i < count; i += THREADS) total += sums[i];
  const double norm = sqrt(over_block<Plus>(total, 0.0, scratch));
  if (threadIdx.x) return;
  const bool finite = *loss - *loss == 0 && norm - norm == 0;
  verdict[LOSS] = *loss;
  verdict[NORM] = norm;
  verdict[SCALE] = clip > 0 ? min(1.0, clip / (norm + 1e-6)) : 1.0;
  verdict[FINITE] = finite && (!before || before[FINITE] > 0);
}
