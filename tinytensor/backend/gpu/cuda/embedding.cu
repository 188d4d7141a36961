// The gradient of an embedding table: rows of dy added up by id.
//
// The ids come sorted, each with the place it came from, so equal ids stand side by side. A block looks at one sorted
// place; if a run of equal ids begins there it adds the whole run up, each thread a few columns, and writes that row of the
// table once. No atomics: the sum has one order and the result is the same every time.
#include "primitives.cuh"

// Sorts the ids and says where each came from, equal ids in the order in which they came. An id's rank is the number of
// smaller ones and of equal ones before it, which every thread counts for its own id: quadratic, but a comparison is so
// cheap that up to about 100,000 ids it takes less time than a sort's many passes, and one launch.
template <int THREADS>
__global__ void __launch_bounds__(THREADS) sort_ids(const long long* __restrict__ ids, long long* __restrict__ sorted,
                                                    long long* __restrict__ places, long long count) {
  __shared__ int tile[THREADS];
  const int own = blockIdx.x * THREADS + threadIdx.x, id = own < count ? (int)ids[own] : 0;
  long long rank = 0;
  for (int start = 0; start < count; start += THREADS) {
    const int place = start + threadIdx.x;
    tile[threadIdx.x] = place < count ? (int)ids[place] : 0x7fffffff;
    __syncthreads();
    for (int i = 0; i < THREADS; i++) rank += tile[i] < id || (tile[i] == id && start + i < own);
    __syncthreads();
  }
  if (own < count) sorted[rank] = id, places[rank] = own;
}

template <class T, class Out>
__global__ void __launch_bounds__(256, 4) embedding_backward(const T* __restrict__ dy, const long long* __restrict__ ids,
                                                          const long long* __restrict__ places, Out* __restrict__ table,
                                                          long long count, long long width) {
  typedef Wide<T> R;
  const long long start = blockIdx.x, id = ids[start];
  if (start > 0 && ids[start - 1] == id) return;
  long long end = start + 1;
  while (end < count && ids[end] == id) end++;
  for (long long column = threadIdx.x; column < width; column += blockDim.x) {
    R sums[4] = {};  // four loads under way at once
    long long i = start;
    for (; i + 4 <= end; i += 4) {
      UNROLL for (int j = 0; j < 4; j++) sums[j] += widen(dy[places[i + j] * width + column]);
    }
    for (; i < end; i++) sums[0] += widen(dy[places[i] * width + column]);
    table[id * width + column] = narrow<Out>((sums[0] + sums[1]) + (sums[2] + sums[3]));
  }
}
