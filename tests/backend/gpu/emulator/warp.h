// What a warp does together: tensor-core products, ldmatrix, cp.async, shuffles and votes.
//
// Fragment layouts are those of the PTX manual (m16n8k16, m16n8k32): lane 4 g + t holds rows g and g + 8 and a few
// neighbouring columns from 2 t (or 4 t) on.
#pragma once
#include "machine.h"

namespace emulator {

struct ProductArgument {
  void* accumulator;                                     // 4 floats or ints
  const uint32_t *a, *b;
};

// Gathers the fragments of all lanes into matrices of `element`s (K of them a row), multiplies, and hands the sums back.
template <class Element, class Sum, int K, class Decode>
void multiply_fragments(void** arguments, Decode decode) {
  constexpr int per_word = 4 / sizeof(Element);
  Sum a[16][K], b[K][8], c[16][8];
  auto unpack = [&](uint32_t word, auto store) {
    Element elements[per_word];
    std::memcpy(elements, &word, 4);
    for (int i = 0; i < per_word; i++) store(i, decode(elements[i]));
  };
  for (int lane = 0; lane < 32; lane++) {
    auto& argument = *(ProductArgument*)arguments[lane];
    int g = lane / 4, t = lane % 4, column = t * per_word;
    for (int part = 0; part < 4; part++) {
      int row = g + part % 2 * 8, start = column + part / 2 * K / 2;
      unpack(argument.a[part], [&](int i, Sum value) { a[row][start + i] = value; });
    }
    for (int part = 0; part < 2; part++) {
      int start = column + part * K / 2;
      unpack(argument.b[part], [&](int i, Sum value) { b[start + i][g] = value; });
    }
    Sum* sums = (Sum*)argument.accumulator;
    for (int i = 0; i < 4; i++) c[g + i / 2 * 8][t * 2 + i % 2] = sums[i];
  }
  for (int row = 0; row < 16; row++) {
    for (int k = 0; k < K; k++) {
      for (int column = 0; column < 8; column++) c[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int lane = 0; lane < 32; lane++) {
    Sum* sums = (Sum*)((ProductArgument*)arguments[lane])->accumulator;
    for (int i = 0; i < 4; i++) sums[i] = c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
  }
  machine.matrix_products++;
}

inline void product_half(void** arguments, unsigned) {
  multiply_fragments<uint16_t, float, 16>(arguments, half_to_float);
}
inline void product_bfloat16(void** arguments, unsigned) {
  multiply_fragments<uint16_t, float, 16>(arguments, bfloat16_to_float);
}
inline void product_int8(void** arguments, unsigned) {
  multiply_fragments<int8_t, int, 32>(arguments, [](int8_t value) { return (int)value; });
}
inline void tensor_core(void (*product)(void**, unsigned), void* sums, const uint32_t* a, const uint32_t* b, int line) {
  ProductArgument argument{sums, a, b};
  warp_collective("mma.sync", line, ~0u, &argument, product);
}

// ---- memory ----
inline void check_shared(const void* address, int bytes, int line, const char* what) {
  auto place = (const unsigned char*)address;
  if ((uintptr_t)address % bytes) fail("misaligned address in shared memory", line);
  if (place < machine.shared || place + bytes > machine.shared + machine.shared_bytes) {
    report("%s: ", what);
    fail("address outside of dynamic shared memory", line);
  }
}

struct LoadArgument {
  uint32_t* registers;
  uint16_t row[8];
  uintptr_t offset;
};

// Four 8 x 8 matrices: lane 8 m + i hands in the address of row i of matrix m.
template <bool TRANSPOSED> void load_matrices(void** arguments, unsigned) {
  auto argument = [&](int lane) -> LoadArgument& { return *(LoadArgument*)arguments[lane]; };
  for (int matrix = 0; matrix < 4; matrix++) {
    unsigned banks = 0;
    for (int i = 0; i < 8; i++) banks |= 1u << (argument(matrix * 8 + i).offset / 16 % 8);
    machine.matrix_loads++;
    machine.bank_conflicts += 8 - __builtin_popcount(banks);
    for (int lane = 0; lane < 32; lane++) {
      int i = lane / 4, j = lane % 4 * 2;
      uint32_t low = TRANSPOSED ? argument(matrix * 8 + j).row[i] : argument(matrix * 8 + i).row[j];
      uint32_t high = TRANSPOSED ? argument(matrix * 8 + j + 1).row[i] : argument(matrix * 8 + i).row[j + 1];
      argument(lane).registers[matrix] = low | high << 16;
    }
  }
}
template <bool TRANSPOSED> void ldmatrix(uint32_t* registers, const void* row, int line) {
  check_shared(row, 16, line, "ldmatrix");
  LoadArgument argument;
  argument.registers = registers;
  argument.offset = (const unsigned char*)row - machine.shared;
  std::memcpy(argument.row, row, 16);
  warp_collective(TRANSPOSED ? "ldmatrix.trans" : "ldmatrix", line, ~0u, &argument, load_matrices<TRANSPOSED>);
}

// The destination is NaN from the moment the copy is issued until it is waited for: a missing wait and a buffer that is
// overwritten too early both give wrong numbers.
inline void copy_async(void* to, const void* from, int valid, int line) {
  Fiber& me = *machine.current;
  check_shared(to, 16, line, "cp.async");
  if ((uintptr_t)from % 16) fail("cp.async from a misaligned address", line);
  if (me.copy_count == MAX_COPIES) fail("more than 64 cp.async in flight", line);
  std::memset(to, 0xFF, 16);
  me.copies[me.copy_count++] = {to, from, 16, valid, me.copy_group};
}
inline void commit_copies() { machine.current->copy_group++; }
inline void wait_for_copies(int groups_left) {
  Fiber& me = *machine.current;
  int kept = 0;
  for (int i = 0; i < me.copy_count; i++) {
    PendingCopy& copy = me.copies[i];
    if (copy.group >= me.copy_group - groups_left) {
      me.copies[kept++] = copy;
      continue;
    }
    std::memset(copy.to, 0, copy.bytes);
    std::memcpy(copy.to, copy.from, copy.valid);
  }
  me.copy_count = kept;
}

// ---- shuffles and votes ----
template <class T> struct ShuffleArgument {
  T value, result;
  int source;
};
template <class T> void exchange(void** arguments, unsigned lanes) {
  for (int lane = 0; lane < 32; lane++) {
    if (!(lanes >> lane & 1)) continue;
    auto& argument = *(ShuffleArgument<T>*)arguments[lane];
    if (lanes >> argument.source & 1) {
      argument.result = ((ShuffleArgument<T>*)arguments[argument.source])->value;
    } else {
      std::memset((void*)&argument.result, 0xFF, sizeof(T));   // undefined on the GPU
    }
  }
}
template <class T> T shuffle(const char* name, unsigned mask, T value, int source, int line) {
  ShuffleArgument<T> argument{value, value, source};
  warp_collective(name, line, mask, &argument, exchange<T>);
  return argument.result;
}
struct VoteArgument {
  bool vote;
  unsigned result;
};
inline void count_votes(void** arguments, unsigned lanes) {
  unsigned votes = 0;
  for (int lane = 0; lane < 32; lane++) {
    if (lanes >> lane & 1 && ((VoteArgument*)arguments[lane])->vote) votes |= 1u << lane;
  }
  for (int lane = 0; lane < 32; lane++) {
    if (lanes >> lane & 1) ((VoteArgument*)arguments[lane])->result = votes;
  }
}
inline void nothing(void**, unsigned) {}
inline int lane() { return machine.current->index & 31; }

}  // namespace emulator
