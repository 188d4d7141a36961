// Who may attend to whom, and what is added to the logits: shared by all attention kernels.
//
// Causal rule, window and padding are tile by tile: tiles outside are never visited. Mask, bias and dropout are element
// by element, and kernels without them are compiled without that code (EXTRAS = 0).
#pragma once
#include "primitives.cuh"
#include "random.cuh"

// The parameters that these rules add to a kernel, and the struct they are gathered in.
#define RULE_PARAMETERS(T)                                                                                      \
  long long heads, long long queries, long long keys, long long causal, long long window, const int *key_limits,\
      const T *bias, long long bias_batch, long long bias_head, long long bias_query, long long bias_key,       \
      const unsigned char *mask, long long mask_batch, long long mask_head, long long mask_query,               \
      long long mask_key, long long threshold, const u64 *seed_at, u64 seed
#define GATHER_RULES(T, batch, head)                                                                            \
  {(int)queries, (int)keys, (int)(keys - queries), key_limits ? min((int)keys, key_limits[batch]) : (int)keys,  \
   causal != 0, (int)window, bias ? bias + batch * bias_batch + head * bias_head : nullptr, (int)bias_query,    \
   (int)bias_key, mask ? mask + batch * mask_batch + head * mask_head : nullptr, (int)mask_query,               \
   (int)mask_key, (u32)threshold, (u32)(batch * heads + head), seed_of(seed_at, seed)}

// The steps from batch entry to batch entry, head to head and row to row, and where this head's rows begin; and the
// parameters of the kernels that work in tiles, on the tensor cores and on the plain ones.
#define STRIDES(x) long long x##_batch, long long x##_head, long long x##_row
#define OF_HEAD(x) (x + batch * x##_batch + head * x##_head)
#define FORWARD_PARAMETERS(T)                                                                                   \
  const T *__restrict__ q, const T *__restrict__ k, const T *__restrict__ v, T *__restrict__ y,                 \
      Wide<T> *__restrict__ log_sums, STRIDES(q), STRIDES(k), STRIDES(v), STRIDES(y), long long width,          \
      double scale, RULE_PARAMETERS(T)
#define BACKWARD_PARAMETERS(T)                                                                                  \
  const T *__restrict__ q, const T *__restrict__ k, const T *__restrict__ v, const T *__restrict__ dy,          \
      const Wide<T> *__restrict__ log_sums, const Wide<T> *__restrict__ delta, Wide<T> *__restrict__ dq,        \
      T *__restrict__ dk, T *__restrict__ dv, Wide<T> *__restrict__ dbias, STRIDES(q), STRIDES(k), STRIDES(v),  \
      STRIDES(dy), STRIDES(dk), STRIDES(dv), long long dbias_batch, long long dbias_head, long long dbias_query,\
      long long dbias_key, long long width, double scale, RULE_PARAMETERS(T)

template <class T> struct alignas(2 * sizeof(T)) Pair {
  T at[2];
};

template <class T> struct Rules {
  int queries, keys, offset;  // query t stands at key t + offset
  int end;  // keys from here on are padding
  bool causal;
  int window;  // how many keys back a query sees; 0: all
  const T* bias;  // of this batch entry and head
  int bias_query, bias_key;
  const unsigned char* mask;
  int mask_query, mask_key;
  u32 threshold;  // dropout's share of 65536
  u32 cell;  // which (batch entry, head), for the random numbers
  u64 seed;

  // 1 / (1 - p)
  __device__ __forceinline__ Wide<T> survivor_scale() const { return Wide<T>(65536) / Wide<T>(65536 - threshold); }
  // The keys that any of the queries [first, last] may see: [first_key, end_key).
  __device__ __forceinline__ int first_key(int first) const { return window ? max(0, first + offset - window + 1) : 0; }
  __device__ __forceinline__ int end_key(int last) const { return causal ? max(0, min(end, last + offset + 1)) : end; }
  // And the queries that may see any of the keys [first, last].
  __device__ __forceinline__ int first_query(int first) const { return causal ? max(0, first - offset) : 0; }
  __device__ __forceinline__ int end_query(int last) const {
    return window ? min(queries, max(0, last - offset + window)) : queries;
  }
  // Whether every query of [first_query, last_query] sees every key of [first_key, last_key].
  __device__ __forceinline__ bool sees_all(int first_query, int last_query, int first_key, int last_key) const {
    return last_key < end && last_query < queries && (!causal || last_key <= first_query + offset) &&
           (!window || first_key > last_query + offset - window);
  }
  __device__ __forceinline__ bool sees(int query, int key) const {
    int place = query + offset;
    return key < end && query < queries && (!causal || key <= place) && (!window || key > place - window);
  }
  __device__ __forceinline__ bool allows(int query, int key) const {
    return !mask || mask[query * mask_query + key * mask_key];
  }
  __device__ __forceinline__ Wide<T> added(int query, int key) const {
    return bias ? widen(bias[query * bias_query + key * bias_key]) : Wide<T>(0);
  }
  // Of a row of the bias, that for an even key and for the next one: one load where two numbers lie side by side.
  __device__ __forceinline__ void added_pair(Wide<T> (&pair)[2], int query, int key, bool beside) const {
    pair[0] = pair[1] = Wide<T>(0);
    if (!bias || query >= queries) return;
    const T* at = bias + query * bias_query + key * bias_key;
    if (beside && key + 1 < keys) {
      const Pair<T> both = *reinterpret_cast<const Pair<T>*>(at);
      pair[0] = widen(both.at[0]), pair[1] = widen(both.at[1]);
    } else {
      if (key < keys) pair[0] = widen(at[0]);
      if (key + 1 < keys) pair[1] = widen(at[bias_key]);
    }
  }
  // Whether pairs of the bias that begin at even keys can be read at once.
  __device__ __forceinline__ bool pairs_beside() const {
    return bias_key == 1 && bias_query % 2 == 0 && reinterpret_cast<u64>(bias) % sizeof(Pair<T>) == 0;
  }
  // A mask that is the same for all queries, as padding is, is read once for many of them.
  __device__ __forceinline__ bool by_key() const { return mask && mask_query == 0; }
  __device__ __forceinline__ bool opens(int key) const { return key < keys && mask[key * mask_key]; }

  // Random words for a patch of two rows 2i, 2i + 1 and four columns 2j, 2j + 1, 2j + 8, 2j + 9 of a 16-column strip:
  // a thread of the forward kernel owns four elements of it in one row, one of the backward kernel four in two rows.
  __device__ __forceinline__ Words patch(int query, int key) const {
    return philox(query / 2, key / 16 * 4 + key % 8 / 2, cell, 0, seed);
  }
  __device__ __forceinline__ bool keeps(const Words& words, int query, int key) const {
    // Chosen by conditions, because registers have no addresses: an index known only at run time would go to memory.
    const u32 even = key & 8 ? words.at[2] : words.at[0], odd = key & 8 ? words.at[3] : words.at[1];
    return kept(key & 1 ? odd : even, query % 2, threshold);
  }
};

// The lanes of a pair (lane and lane ^ 4) need the same words: forward's have rows 2i and 2i + 1 of a patch, backward's
// columns. So of two patches each lane draws one, the `odd` lane the second, and gives the other lane its part of it.
// own, others: 16 bits each for the four elements of this lane, and of the other one.   Words for two patches come out.
__device__ __forceinline__ void share_draws(u32 (&words)[2][2], const u32 (&own)[2], const u32 (&others)[2], bool odd) {
  UNROLL for (int i = 0; i < 2; i++) {
    const u32 given = __shfl_xor_sync(FULL_WARP, others[i], 4);
    words[0][i] = odd ? given : own[i];
    words[1][i] = odd ? own[i] : given;
  }
}
