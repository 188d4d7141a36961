// Attention on the plain cores: the same algorithm as attention_forward.cu and attention_backward.cu, without rounding
// anything to 16 bits on the way. For float and double; and for 16-bit numbers where the tensor cores' kernels do not go:
// on a GPU before the A100, and for heads of more than 128.
//
// 128 threads: 16 groups of 8, a group owns ROWS = QUERIES / 16 rows of queries, and of these thread x of 8 owns every
// eighth key of S, and every eighth 4 columns of the output. So a row's softmax needs 8 neighbouring lanes. Tiles lie in
// shared memory with 4 elements of padding to the row, which keeps 8 rows read at once in different banks.
// Tiles: QUERIES x 32 keys. Shared memory forward: (QUERIES + 64)(D + 4) elements and 36 QUERIES sums (75 KB for float,
// D = 128 and 64 queries, 55 KB for 32 of them).
#include "attention_rules.cuh"

constexpr int KEYS = 32, THREADS = 128;

template <class T> struct alignas(sizeof(T) < 4 ? 8 : 16) Four {
  T at[4];
};
// Four neighbours of a tile's row, with one load.
template <class T> __device__ __forceinline__ Four<Wide<T>> four(const T* p) {
  const Four<T> read = *reinterpret_cast<const Four<T>*>(p);
  Four<Wide<T>> wide;
  UNROLL for (int e = 0; e < 4; e++) wide.at[e] = widen(read.at[e]);
  return wide;
}

// Rows [first, first + ROWS) of a matrix into a tile of D columns, zeros beyond its ends.
template <int ROWS, int D, class T>
__device__ __forceinline__ void load_rows(T* tile, const T* matrix, long long stride, int first, int rows, int width) {
  for (int i = threadIdx.x; i < ROWS * D; i += THREADS) {
    int row = i / D, place = i % D;
    bool inside = first + row < rows && place < width;
    tile[row * (D + 4) + place] = inside ? matrix[(first + row) * stride + place] : narrow<T>(0);
  }
}

// c[i][j] += the product of row `row + i` of one tile with row `x + 8 j` of another.
template <int ROWS, int D, class T>
__device__ __forceinline__ void row_products(Wide<T> (&c)[ROWS][4], const T* rows, int row, const T* others, int x) {
  for (int place = 0; place < D; place += 4) {
    Four<Wide<T>> a[ROWS], b[4];
    UNROLL for (int i = 0; i < ROWS; i++) a[i] = four(rows + (row + i) * (D + 4) + place);
    UNROLL for (int j = 0; j < 4; j++) b[j] = four(others + (x + 8 * j) * (D + 4) + place);
    UNROLL for (int i = 0; i < ROWS; i++) {
      UNROLL for (int j = 0; j < 4; j++) {
        UNROLL for (int e = 0; e < 4; e++) c[i][j] += a[i].at[e] * b[j].at[e];
      }
    }
  }
}

template <class T, int D, int QUERIES>
__global__ void __launch_bounds__(THREADS, 1) attention_plain_forward(FORWARD_PARAMETERS(T)) {
  typedef Wide<T> R;
  constexpr int ROWS = QUERIES / 16;
  DYNAMIC_SHARED(shared);
  T* q_tile = reinterpret_cast<T*>(shared);
  T* k_tile = q_tile + QUERIES * (D + 4);
  T* v_tile = k_tile + KEYS * (D + 4);
  R* p_tile = reinterpret_cast<R*>(v_tile + KEYS * (D + 4));  // QUERIES x (KEYS + 4)

  const int head = blockIdx.y, batch = blockIdx.z, first = (gridDim.x - 1 - blockIdx.x) * QUERIES;
  const Rules<T> rules = GATHER_RULES(T, batch, head);
  const int x = threadIdx.x % 8, row = threadIdx.x / 8 * ROWS;
  const int begin = rules.first_key(first) / KEYS * KEYS, end = rules.end_key(first + QUERIES - 1);

  load_rows<QUERIES, D>(q_tile, OF_HEAD(q), q_row, first, rules.queries, width);
  R out[ROWS][D / 32][4] = {}, highest[ROWS], sum[ROWS] = {};
  UNROLL for (int i = 0; i < ROWS; i++) highest[i] = NEGATIVE_INFINITY;
  for (int start = begin; start < end; start += KEYS) {
    __syncthreads();  // everyone is done with the last K, V and P
    load_rows<KEYS, D>(k_tile, OF_HEAD(k), k_row, start, rules.keys, width);
    load_rows<KEYS, D>(v_tile, OF_HEAD(v), v_row, start, rules.keys, width);
    __syncthreads();
    R s[ROWS][4] = {};
    row_products<ROWS, D>(s, q_tile, row, k_tile, x);
    Words words[2];  // for two rows, and keys x and x + 8, x + 16 and x + 24
    UNROLL for (int i = 0; i < ROWS; i++) {
      const int query = first + row + i;
      UNROLL for (int j = 0; j < 2; j++) {
        if (rules.threshold && i % 2 == 0) words[j] = rules.patch(query, start + x + 16 * j);
      }
      R top = highest[i];
      UNROLL for (int j = 0; j < 4; j++) {
        const int key = start + x + 8 * j;
        const bool seen = rules.sees(query, key) && rules.allows(query, key);
        s[i][j] = seen ? s[i][j] * R(scale) + rules.added(query, key) : R(NEGATIVE_INFINITY);
        top = Largest::of(top, s[i][j]);
      }
      top = over_lanes<Largest, 8>(top);
      const R base = top == R(NEGATIVE_INFINITY) ? R(0) : top;
      const R shrink = exponential(highest[i] - base);
      highest[i] = top;
      sum[i] *= shrink;
      UNROLL for (int j = 0; j < 4; j++) {
        const int key = start + x + 8 * j;
        R p = exponential(s[i][j] - base);
        sum[i] += p;
        if (rules.threshold && !rules.keeps(words[j / 2], query, key)) p = 0;
        p_tile[(row + i) * (KEYS + 4) + x + 8 * j] = p;
      }
      UNROLL for (int n = 0; n < D / 32; n++) {
        UNROLL for (int e = 0; e < 4; e++) out[i][n][e] *= shrink;
      }
    }
    __syncwarp();  // the rows of P are read by the lanes that wrote them
#pragma unroll 4
    for (int key = 0; key < KEYS; key++) {
      R p[ROWS];
      UNROLL for (int i = 0; i < ROWS; i++) p[i] = p_tile[(row + i) * (KEYS + 4) + key];
      UNROLL for (int n = 0; n < D / 32; n++) {
        const Four<R> value = four(v_tile + key * (D + 4) + n * 32 + x * 4);
        UNROLL for (int i = 0; i < ROWS; i++) {
          UNROLL for (int e = 0; e < 4; e++) out[i][n][e] += p[i] * value.at[e];
        }
      }
    }
  }
  log_sums += (batch * heads + head) * queries;
  UNROLL for (int i = 0; i < ROWS; i++) {
    const R total = over_lanes<Plus, 8>(sum[i]);
    const int query = first + row + i;
    if (query >= rules.queries) continue;
    const R scale_out = total > 0 ? rules.survivor_scale() / total : R(0);
    UNROLL for (int n = 0; n < D / 32; n++) {
      UNROLL for (int e = 0; e < 4; e++) {
        const int place = n * 32 + x * 4 + e;
        if (place < width) OF_HEAD(y)[query * y_row + place] = narrow<T>(out[i][n][e] * scale_out);
      }
    }
    if (x == 0) log_sums[query] = total > 0 ? highest[i] + logarithm(total) : R(POSITIVE_INFINITY);
  }
}

// As in attention_backward.cu, a block owns a tile of keys. Thread x of group g owns keys 2 g and 2 g + 1 of dK and dV.
template <class T, int D, int QUERIES>
__global__ void __launch_bounds__(THREADS, 1) attention_plain_backward(BACKWARD_PARAMETERS(T)) {
  typedef Wide<T> R;
  constexpr int ROWS = QUERIES / 16;
  DYNAMIC_SHARED(shared);
  T* k_tile = reinterpret_cast<T*>(shared);
  T* v_tile = k_tile + KEYS * (D + 4);
  T* q_tile = v_tile + KEYS * (D + 4);
  T* dy_tile = q_tile + QUERIES * (D + 4);
  R* p_tile = reinterpret_cast<R*>(dy_tile + QUERIES * (D + 4));  // QUERIES x (KEYS + 4), after dropout
  R* ds_tile = p_tile + QUERIES * (KEYS + 4);

  const int head = blockIdx.y, batch = blockIdx.z, first = blockIdx.x * KEYS;
  const Rules<T> rules = GATHER_RULES(T, batch, head);
  const int x = threadIdx.x % 8, group = threadIdx.x / 8, row = group * ROWS;
  log_sums += (batch * heads + head) * queries;
  delta += (batch * heads + head) * queries;
  dq += (batch * heads + head) * queries * width;
  const R survivors = rules.survivor_scale();
  const int begin = rules.first_query(first) / QUERIES * QUERIES, end = rules.end_query(first + KEYS - 1);

  load_rows<KEYS, D>(k_tile, OF_HEAD(k), k_row, first, rules.keys, width);
  load_rows<KEYS, D>(v_tile, OF_HEAD(v), v_row, first, rules.keys, width);
  R key_sums[2][D / 32][4] = {}, value_sums[2][D / 32][4] = {};
  for (int start = begin; start < end; start += QUERIES) {
    __syncthreads();  // everyone is done with the last tiles
    load_rows<QUERIES, D>(q_tile, OF_HEAD(q), q_row, start, rules.queries, width);
    load_rows<QUERIES, D>(dy_tile, OF_HEAD(dy), dy_row, start, rules.queries, width);
    __syncthreads();
    R s[ROWS][4] = {}, dp[ROWS][4] = {};
    row_products<ROWS, D>(s, q_tile, row, k_tile, x);
    row_products<ROWS, D>(dp, dy_tile, row, v_tile, x);
    Words words[2];
    UNROLL for (int i = 0; i < ROWS; i++) {
      const int query = start + row + i;
      UNROLL for (int j = 0; j < 2; j++) {
        if (rules.threshold && i % 2 == 0) words[j] = rules.patch(query, first + x + 16 * j);
      }
      const bool inside = query < rules.queries;
      const R log_sum = inside ? log_sums[query] : R(POSITIVE_INFINITY), row_delta = inside ? delta[query] : R(0);
      UNROLL for (int j = 0; j < 4; j++) {
        const int key = first + x + 8 * j;
        const bool seen = rules.sees(query, key) && rules.allows(query, key);
        const R p = seen ? exponential(s[i][j] * R(scale) + rules.added(query, key) - log_sum) : R(0);
        const bool keep = !rules.threshold || rules.keeps(words[j / 2], query, key);
        const R ds = p * ((keep ? dp[i][j] * survivors : R(0)) - row_delta);
        p_tile[(row + i) * (KEYS + 4) + x + 8 * j] = keep ? p * survivors : R(0);
        ds_tile[(row + i) * (KEYS + 4) + x + 8 * j] = ds;
        if (dbias && seen) atomicAdd(OF_HEAD(dbias) + query * dbias_query + key * dbias_key, ds);
      }
    }
    __syncthreads();  // P and dS are complete
#pragma unroll 2
    for (int i = 0; i < QUERIES; i++) {
      R p[2], ds[2];
      UNROLL for (int j = 0; j < 2; j++) {
        p[j] = p_tile[i * (KEYS + 4) + group * 2 + j];
        ds[j] = ds_tile[i * (KEYS + 4) + group * 2 + j];
      }
      UNROLL for (int n = 0; n < D / 32; n++) {
        const Four<R> from_dy = four(dy_tile + i * (D + 4) + n * 32 + x * 4);
        const Four<R> from_q = four(q_tile + i * (D + 4) + n * 32 + x * 4);
        UNROLL for (int j = 0; j < 2; j++) {
          UNROLL for (int e = 0; e < 4; e++) {
            value_sums[j][n][e] += p[j] * from_dy.at[e];
            key_sums[j][n][e] += ds[j] * from_q.at[e];
          }
        }
      }
    }
    for (int n = 0; n < D / 32; n++) {  // dQ, 4 columns of the group's rows at a time
      R sums[ROWS][4] = {};
#pragma unroll 4
      for (int key = 0; key < KEYS; key++) {
        const Four<R> from_k = four(k_tile + key * (D + 4) + n * 32 + x * 4);
        UNROLL for (int i = 0; i < ROWS; i++) {
          const R ds = ds_tile[(row + i) * (KEYS + 4) + key];
          UNROLL for (int e = 0; e < 4; e++) sums[i][e] += ds * from_k.at[e];
        }
      }
      UNROLL for (int i = 0; i < ROWS; i++) {
        UNROLL for (int e = 0; e < 4; e++) {
          const int query = start + row + i, place = n * 32 + x * 4 + e;
          if (query < rules.queries && place < width) atomicAdd(dq + query * width + place, sums[i][e] * R(scale));
        }
      }
    }
  }
  UNROLL for (int j = 0; j < 2; j++) {
    const int key = first + group * 2 + j;
    if (key >= rules.keys) continue;
    UNROLL for (int n = 0; n < D / 32; n++) {
      UNROLL for (int e = 0; e < 4; e++) {
        const int place = n * 32 + x * 4 + e;
        if (place < width) {
          OF_HEAD(dk)[key * dk_row + place] = narrow<T>(key_sums[j][n][e] * R(scale));
          OF_HEAD(dv)[key * dv_row + place] = narrow<T>(value_sums[j][n][e]);
        }
      }
    }
  }
}
