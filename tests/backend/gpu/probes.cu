// Small kernels that check the emulator itself, and some that are wrong on purpose.
#include "primitives.cuh"
#include "random.cuh"

template <class T> __global__ void probe_product(const u32* a, const u32* b, float* c) {
  const int lane = threadIdx.x;
  u32 left[4], right[2];
  float sums[4];
  for (int i = 0; i < 4; i++) left[i] = a[lane * 4 + i], sums[i] = c[lane * 4 + i];
  for (int i = 0; i < 2; i++) right[i] = b[lane * 2 + i];
  multiply_add(sums, left, right, T());
  for (int i = 0; i < 4; i++) c[lane * 4 + i] = sums[i];
}
template <bool TRANSPOSED> __global__ void probe_load(const u32* matrices, u32* fragments) {
  DYNAMIC_SHARED(shared);
  u32* words = reinterpret_cast<u32*>(shared);
  for (int i = 0; i < 4; i++) words[threadIdx.x * 4 + i] = matrices[threadIdx.x * 4 + i];
  __syncwarp();
  u32 r[4];
  load_matrices<TRANSPOSED>(r, words + threadIdx.x * 4);
  for (int i = 0; i < 4; i++) fragments[threadIdx.x * 4 + i] = r[i];
}
template <class T> __global__ void probe_round(const float* x, T* y, long long n) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = narrow<T>(x[i]);
}
template <int> __global__ void probe_philox(const u32* counter, u64 key, u32* words) {
  Words drawn = philox(counter[0], counter[1], counter[2], counter[3], key);
  for (int i = 0; i < 4; i++) words[i] = drawn.at[i];
}
template <int> __global__ void two_barriers(int* out) {
  if (threadIdx.x < 40) {
    __syncthreads();
    out[0] = 1;
  } else {
    out[1] = 2;
    __syncthreads();
  }
}
template <int> __global__ void early_exit(int* out) {
  if (threadIdx.x == 77) return;
  __syncthreads();
  out[0] = 1;
}
template <int> __global__ void half_a_shuffle(int* out) {
  int value = threadIdx.x;
  if (value & 1) value = __shfl_xor_sync(FULL_WARP, value, 1);
  out[threadIdx.x] = value;
}
template <int> __global__ void beyond_shared(int* out) {
  DYNAMIC_SHARED(shared);
  reinterpret_cast<int*>(shared)[threadIdx.x * 16] = 1;
  out[threadIdx.x] = 1;
}
template <int> __global__ void beyond_array(int* out) {
  out[threadIdx.x] = 1;
  if (threadIdx.x == 127) out[640] = 1;  // in the page behind the array, which is nobody's
}
template <int> __global__ void just_beyond_array(int* out) {
  out[threadIdx.x + 1] = 1;
}
template <int> __global__ void forgotten_wait(const int* in, int* out) {
  DYNAMIC_SHARED(shared);
  int* words = reinterpret_cast<int*>(shared);
  copy_async(words + threadIdx.x * 4, in + threadIdx.x * 4, true);
  commit_copies();
  __syncthreads();
  out[threadIdx.x] = words[threadIdx.x];
}
template <int> __global__ void beyond_registers(const int* in, int* out) {
  int own[4] = {1, 2, 3, 4};
  own[in[threadIdx.x]] = 5;
  out[threadIdx.x] = own[0] + own[3];
}
template <int> __global__ void beyond_static_shared(const int* in, int* out) {
  __shared__ int tile[32];
  tile[threadIdx.x + in[threadIdx.x]] = 1;
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x];
}
template <int> __global__ void overflowing_sum(const int* in, int* out) {
  out[threadIdx.x] = in[threadIdx.x] + 0x7fffffff;
}
