// The gradient of an embedding table: rows of dy added up by id.
//
// The ids are sorted first, each with the place it came from, so that equal ids stand side by side (a run). A warp takes
// CHUNK sorted places and 32 SIZE columns and adds up its rows, four of them under way at once; where a run ends it writes
// the sum. A run that goes over several chunks leaves a part in each, and a second kernel adds the parts up: so a frequent
// id keeps many warps busy, not one. No atomics: each sum has one order and the result is the same every time.
#include "primitives.cuh"

// ---- the sort: by 8 bits at a time, the lowest first; each pass leaves equal ones in the order in which they came ----
//
// A block takes 8 x 256 ids, each warp 256 neighbours. One kernel counts how many of each digit a block has; from these
// counts the other one knows where each block's ids of each digit begin, and puts them there.
constexpr int DIGITS = 256, WARPS = 8, ROUNDS = 8, IDS = WARPS * ROUNDS * 32;

// The lanes whose id has the same digit; none for lanes without an id.
__device__ __forceinline__ u32 lanes_alike(int digit, bool valid) {
  u32 alike = __ballot_sync(FULL_WARP, valid);
  UNROLL for (int bit = 0; bit < 8; bit++) {
    const bool set = digit >> bit & 1;
    const u32 votes = __ballot_sync(FULL_WARP, set);
    alike &= set ? votes : ~votes;
  }
  return valid ? alike : 0;
}

// Adds what each warp has of each digit to counts[warp][digit].
__device__ __forceinline__ void count_by_warp(int (&counts)[WARPS][DIGITS], const long long* ids, long long count,
                                              int shift) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int i = threadIdx.x; i < WARPS * DIGITS; i += WARPS * 32) counts[i / DIGITS][i % DIGITS] = 0;
  __syncthreads();
  for (int round = 0; round < ROUNDS; round++) {
    const long long place = blockIdx.x * (long long)IDS + (warp * ROUNDS + round) * 32 + lane;
    const int digit = place < count ? ids[place] >> shift & (DIGITS - 1) : 0;
    const u32 alike = lanes_alike(digit, place < count);
    if (alike && lane == __ffs(alike) - 1) counts[warp][digit] += __popc(alike);  // one lane for all
    __syncwarp();
  }
  __syncthreads();
}

// counts[block][digit]
template <int SHIFT>
__global__ void __launch_bounds__(WARPS * 32) sort_count(const long long* __restrict__ ids, int* __restrict__ counts,
                                                         long long count) {
  __shared__ int of_warp[WARPS][DIGITS];
  count_by_warp(of_warp, ids, count, SHIFT);
  int sum = 0;
  UNROLL for (int warp = 0; warp < WARPS; warp++) sum += of_warp[warp][threadIdx.x];
  counts[blockIdx.x * DIGITS + threadIdx.x] = sum;
}

// `from`: where the ids stood before the first pass; null in that.
template <int SHIFT>
__global__ void __launch_bounds__(WARPS * 32) sort_place(
    const long long* __restrict__ ids, const long long* __restrict__ from, const int* __restrict__ counts,
    long long* __restrict__ sorted, long long* __restrict__ places, long long count) {
  __shared__ int next[WARPS][DIGITS], scan[DIGITS];  // where the next id of a warp and digit belongs
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, own = threadIdx.x;  // `own`: a digit to each thread
  count_by_warp(next, ids, count, SHIFT);
  int all = 0, before = 0;
  for (int block = 0; block < gridDim.x; block++) {
    const int number = counts[block * DIGITS + own];
    all += number;
    if (block < blockIdx.x) before += number;
  }
  scan[own] = all;
  __syncthreads();
  for (int distance = 1; distance < DIGITS; distance *= 2) {  // sums over this digit and those below it
    const int more = own >= distance ? scan[own - distance] : 0;
    __syncthreads();
    scan[own] += more;
    __syncthreads();
  }
  int start = scan[own] - all + before;
  UNROLL for (int w = 0; w < WARPS; w++) {
    const int number = next[w][own];
    next[w][own] = start;
    start += number;
  }
  __syncthreads();
  for (int round = 0; round < ROUNDS; round++) {
    const long long place = blockIdx.x * (long long)IDS + (warp * ROUNDS + round) * 32 + lane;
    const bool valid = place < count;
    const long long id = valid ? ids[place] : 0;
    const int digit = id >> SHIFT & (DIGITS - 1);
    const u32 alike = lanes_alike(digit, valid);
    const int target = next[warp][digit] + __popc(alike & ((1u << lane) - 1));
    __syncwarp();
    if (valid) sorted[target] = id, places[target] = from ? from[place] : place;
    if (alike && lane == __ffs(alike) - 1) next[warp][digit] += __popc(alike);
    __syncwarp();
  }
}

// ---- the sums ----
constexpr int CHUNK = 32, TEAMS = 8;

// parts[chunk][0]: of a run that began before the chunk; [1]: of one that begins in it and goes on behind it.
template <class T, class Out, int SIZE>
__global__ void __launch_bounds__(128) embedding_sums(
    const T* __restrict__ dy, const long long* __restrict__ ids, const long long* __restrict__ places,
    Out* __restrict__ table, Wide<T>* __restrict__ parts, long long count, long long width) {
  typedef Wide<T> R;
  const long long chunk = blockIdx.x * 4 + threadIdx.x / 32, start = chunk * CHUNK, end = min(start + CHUNK, count);
  const long long column = (blockIdx.y * 32ll + threadIdx.x % 32) * SIZE;
  if (start >= count || column >= width) return;
  bool goes_on = start > 0 && ids[start - 1] == ids[start];
  R sums[SIZE] = {};
  for (long long first = start; first < end; first += 4) {
    R rows[4][SIZE];
    UNROLL for (int j = 0; j < 4; j++) {  // beyond the end the last one again, which is not added
      read_part<SIZE>(rows[j], dy + places[min(first + j, end - 1)] * width + column);
    }
    UNROLL for (int j = 0; j < 4; j++) {
      const long long place = first + j;
      if (place >= end) break;
      UNROLL for (int e = 0; e < SIZE; e++) sums[e] += rows[j][e];
      const bool ends = place + 1 == count || ids[place + 1] != ids[place];
      if (!ends && place + 1 < end) continue;
      if (ends && !goes_on) {
        write_sums<SIZE>(table + ids[place] * width + column, sums);
      } else {
        write_sums<SIZE>(parts + (2 * chunk + !goes_on) * width + column, sums);
      }
      goes_on = false;
      UNROLL for (int e = 0; e < SIZE; e++) sums[e] = 0;
    }
  }
}

// The runs that begin in the chunk blockIdx.x and go on behind it: a team of lanes to each eighth of their chunks.
template <class R, class Out, int SIZE>
__global__ void __launch_bounds__(32 * TEAMS) embedding_join(const long long* __restrict__ ids,
                                                             const R* __restrict__ parts, Out* __restrict__ table,
                                                             long long count, long long width) {
  __shared__ R scratch[TEAMS][32 * SIZE];
  const long long start = blockIdx.x * (long long)CHUNK, end = start + CHUNK;
  if (end >= count || ids[end] != ids[end - 1]) return;               // nothing goes on
  const long long id = ids[end];
  if (start > 0 && ids[start - 1] == id) return;  // it began before
  const int lane = threadIdx.x % 32, team = threadIdx.x / 32;
  const long long column = (blockIdx.y * 32ll + lane) * SIZE;
  R sums[SIZE] = {};
  for (long long chunk = blockIdx.x + team; column < width && chunk * CHUNK < count; chunk += TEAMS) {
    const bool first = chunk == blockIdx.x;
    if (!first && ids[chunk * CHUNK] != id) break;
    R part[SIZE];
    read_sums<SIZE>(part, parts + (2 * chunk + first) * width + column);
    UNROLL for (int e = 0; e < SIZE; e++) sums[e] += part[e];
  }
  UNROLL for (int e = 0; e < SIZE; e++) scratch[team][lane * SIZE + e] = sums[e];
  __syncthreads();
  for (int i = threadIdx.x; i < 32 * SIZE; i += 32 * TEAMS) {
    const long long place = blockIdx.y * 32ll * SIZE + i;
    R sum = 0;
    UNROLL for (int t = 0; t < TEAMS; t++) sum += scratch[t][i];
    if (place < width) table[id * width + place] = narrow<Out>(sum);
  }
}
