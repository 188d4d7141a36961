// The machine: one block at a time, each CUDA thread a fiber with a stack of its own, all in one operating-system thread.
//
// A fiber runs until it must wait for others (a barrier, a warp collective) and then hands the CPU to the next one that can
// go on. So barriers and collectives are exact, a run is deterministic, and a set of fibers that all wait for something
// that will never come is found at once: that is a divergent barrier. `order` chooses who goes next (upwards, downwards,
// at random), so that a kernel that forgot a barrier gives different numbers under different orders.
//
// Not modelled: weak memory, pre-emption between barriers, time, blocks that wait for each other.
#pragma once
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include "types.h"
#ifdef __SANITIZE_ADDRESS__
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulator {

constexpr int MAX_THREADS = 1024;
#ifdef __SANITIZE_ADDRESS__
constexpr size_t STACK_BYTES = 256 << 10;                // there is room around every variable
#else
constexpr size_t STACK_BYTES = 64 << 10;
#endif
constexpr size_t PAGE = 4096;
constexpr size_t LARGEST_SHARED = 227 << 10;             // what a block may ask for on an H100
constexpr int MAX_COPIES = 64;

// A cp.async that has been issued and not yet waited for.
struct PendingCopy {
  void* to;
  const void* from;
  int bytes, valid, group;
};

struct Fiber {
  void* stack_pointer;                                   // where it stopped, while another fiber runs
  ucontext_t context;                                    // the same on CPUs without our own switch
  void* stack;                                           // its lowest address and size, for the address sanitizer
  size_t stack_bytes;
  uint3 thread;
  int index;                                             // threadIdx, flattened
  bool done, in_barrier;
  const char* waits_in;
  int line;
  PendingCopy copies[MAX_COPIES];
  int copy_count, copy_group;
};

// Lanes that have arrived at a warp collective; the last to arrive runs `combine` for all.
struct Meeting {
  const char* name;
  int line;
  unsigned mask, arrived;
  void (*combine)(void** arguments, unsigned lanes);
  void* arguments[32];
};

constexpr int MAX_MEETINGS = 8;                          // of one warp at once, where its lanes have diverged

struct Warp {
  unsigned alive, ready;                                 // one bit a lane
  int meeting_count;
  Meeting meetings[MAX_MEETINGS];
};

struct Machine {
  Fiber main, fibers[MAX_THREADS];
  Fiber* current;
  Warp warps[MAX_THREADS / 32];
  int thread_count, warp_count, alive;
  int barrier_count, barrier_line;
  uint3 block_index;
  dim3 block_size, grid_size;
  unsigned char* shared;
  size_t shared_bytes;
  char* stacks;
  void (*kernel)(void*);
  void* kernel_arguments;
  int order;                                             // 0 upwards, 1 downwards, 2 at random
  uint64_t random_state;
  bool failed;
  char error[4096];
  uint64_t matrix_products, matrix_loads, bank_conflicts;
};
static Machine machine;

// ---- switching from one fiber to another ----
#if defined(__x86_64__)
__attribute__((naked, noinline)) inline void swap_stacks(void**, void*) {
  asm volatile(
      "push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15;"
      "mov %rsp, (%rdi); mov %rsi, %rsp;"
      "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp; ret");
}
inline void prepare(Fiber& fiber, char* stack, size_t bytes, void (*start)()) {
  void** top = (void**)(((uintptr_t)stack + bytes) & ~(uintptr_t)63);
  *--top = nullptr;                                      // the return address of `start`, which never returns
  *--top = (void*)start;
  for (int saved_register = 0; saved_register < 6; saved_register++) *--top = nullptr;
  fiber.stack_pointer = top;
}
inline void swap_fibers(Fiber* from, Fiber* to) {
  swap_stacks(&from->stack_pointer, to->stack_pointer);
}
#else
inline void prepare(Fiber& fiber, char* stack, size_t bytes, void (*start)()) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack;
  fiber.context.uc_stack.ss_size = bytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, start, 0);
}
inline void swap_fibers(Fiber* from, Fiber* to) {
  swapcontext(&from->context, &to->context);
}
#endif

// ---- what the address sanitizer must be told, if there is one (see sanitized.py) ----
#ifdef __SANITIZE_ADDRESS__
inline void leaves_for(Fiber* next) { __sanitizer_start_switch_fiber(nullptr, next->stack, next->stack_bytes); }
inline void arrived() { __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr); }
inline void fresh(void* memory, size_t bytes) { ASAN_UNPOISON_MEMORY_REGION(memory, bytes); }
inline void forbidden(void* memory, size_t bytes) { ASAN_POISON_MEMORY_REGION(memory, bytes); }
inline void find_own_stack(Fiber& main) {
  pthread_attr_t about;
  pthread_getattr_np(pthread_self(), &about);
  pthread_attr_getstack(&about, &main.stack, &main.stack_bytes);
  pthread_attr_destroy(&about);
}
#else
inline void leaves_for(Fiber*) {}
inline void arrived() {}
inline void fresh(void*, size_t) {}
inline void forbidden(void*, size_t) {}
inline void find_own_stack(Fiber&) {}
#endif

inline void switch_to(Fiber* next) {
  Fiber* previous = machine.current;
  machine.current = next;
  leaves_for(next);
  swap_fibers(previous, next);
  arrived();
}

// ---- reporting what a kernel did wrong ----
inline void report(const char* format, ...) {
  size_t length = std::strlen(machine.error);
  va_list values;
  va_start(values, format);
  std::vsnprintf(machine.error + length, sizeof machine.error - length, format, values);
  va_end(values);
  machine.failed = true;
}

[[noreturn]] inline void abandon() {
  switch_to(&machine.main);                              // for good: run_grid sees `failed` and starts no other fiber
  std::abort();
}

[[noreturn]] inline void fail(const char* what, int line) {
  uint3 block = machine.block_index, thread = machine.current->thread;
  report("%s at line %d: block (%u,%u,%u) thread (%u,%u,%u)\n", what, line, block.x, block.y, block.z, thread.x,
         thread.y, thread.z);
  abandon();
}

// Arrays end at pages without access (see __init__.py), so a wild address lands here.
inline void on_wild_address(int, siginfo_t*, void*) {
  if (machine.current == &machine.main) std::abort();
  fail("memory access outside of every array", 0);
}

// ---- who goes next ----
inline unsigned random_below(unsigned n) {
  machine.random_state = machine.random_state * 6364136223846793005ull + 1442695040888963407ull;
  return (unsigned)(machine.random_state >> 33) % n;
}

inline int choose_lane(unsigned ready, int warps_away, int my_lane) {
  if (machine.order == 1) return 31 - __builtin_clz(ready);
  if (machine.order == 2) {
    int start = random_below(32);
    unsigned rotated = start ? (ready >> start) | (ready << (32 - start)) : ready;
    return (__builtin_ctz(rotated) + start) & 31;
  }
  unsigned above = warps_away ? ready : ready & (~0u << my_lane);
  return __builtin_ctz(above ? above : ready);
}

inline Fiber* choose_next() {
  int count = machine.warp_count;
  int me = machine.current == &machine.main ? 0 : machine.current->index;
  int first = machine.order == 2 ? random_below(count) : me / 32;
  for (int away = 0; away < count; away++) {
    int warp = machine.order == 1 ? (first - away + count) % count : (first + away) % count;
    if (unsigned ready = machine.warps[warp].ready) {
      return &machine.fibers[warp * 32 + choose_lane(ready, away, me & 31)];
    }
  }
  return nullptr;
}

inline void report_waiting() {
  uint3 block = machine.block_index;
  report("divergence in block (%u,%u,%u): %d threads wait for ever\n", block.x, block.y, block.z, machine.alive);
  for (int i = 0, shown = 0; i < machine.thread_count && shown < 8; i++) {
    Fiber& first = machine.fibers[i];
    if (first.done) continue;
    auto alike = [&](Fiber& f) { return !f.done && f.waits_in == first.waits_in && f.line == first.line; };
    int last = i;
    while (last + 1 < machine.thread_count && alike(machine.fibers[last + 1])) last++;
    report("  threads %d..%d in %s (line %d)\n", i, last, first.waits_in, first.line);
    i = last;
    shown++;
  }
}

inline void let_others_run() {
  Fiber* next = choose_next();
  if (!next) {
    if (machine.alive) report_waiting();
    next = &machine.main;
  }
  if (next != machine.current) switch_to(next);
}

inline Warp& warp_of(Fiber& fiber) { return machine.warps[fiber.index / 32]; }
inline unsigned lane_bit(Fiber& fiber) { return 1u << (fiber.index & 31); }

// ---- barriers and collectives ----
inline void block_barrier(int line) {
  Fiber& me = *machine.current;
  if (machine.alive != machine.thread_count) fail("__syncthreads after some threads of the block have exited", line);
  if (machine.barrier_count == 0) machine.barrier_line = line;
  if (machine.barrier_line != line) {
    report("divergent __syncthreads: line %d and line %d\n", machine.barrier_line, line);
    abandon();
  }
  me.waits_in = "__syncthreads";
  me.line = line;
  me.in_barrier = true;
  warp_of(me).ready &= ~lane_bit(me);
  if (++machine.barrier_count == machine.thread_count) {
    machine.barrier_count = 0;
    for (int i = 0; i < machine.thread_count; i++) {
      machine.fibers[i].in_barrier = false;
      warp_of(machine.fibers[i]).ready |= lane_bit(machine.fibers[i]);
    }
  } else {
    let_others_run();
  }
}

// Every lane of `mask` hands in a pointer to its argument; the last one to arrive runs `combine` on all of them.
inline void warp_collective(const char* name, int line, unsigned mask, void* argument,
                            void (*combine)(void**, unsigned)) {
  Fiber& me = *machine.current;
  Warp& warp = warp_of(me);
  if (!(mask & lane_bit(me))) fail("a warp collective whose mask lacks the calling lane", line);
  if (mask & ~warp.alive) fail("a warp collective whose mask names lanes that have exited", line);
  int index = 0;
  auto is_mine = [&](Meeting& m) { return m.name == name && m.line == line && m.mask == mask; };
  while (index < warp.meeting_count && !is_mine(warp.meetings[index])) index++;
  Meeting& meeting = warp.meetings[index];
  if (index == warp.meeting_count) {
    if (index == MAX_MEETINGS) fail("too many divergent warp collectives", line);
    warp.meeting_count++;
    meeting.name = name;
    meeting.line = line;
    meeting.mask = mask;
    meeting.arrived = 0;
    meeting.combine = combine;
  }
  meeting.arguments[me.index & 31] = argument;
  meeting.arrived |= lane_bit(me);
  me.waits_in = name;
  me.line = line;
  if (meeting.arrived == mask) {
    Meeting complete = meeting;
    meeting = warp.meetings[--warp.meeting_count];
    warp.ready |= complete.arrived;
    complete.combine(complete.arguments, complete.arrived);
  } else {
    warp.ready &= ~lane_bit(me);
    let_others_run();
  }
}

// ---- running a grid ----
inline void run_thread() {
  arrived();
  machine.kernel(machine.kernel_arguments);
  Fiber& me = *machine.current;
  Warp& warp = warp_of(me);
  if (me.copy_count) report("thread %d exited with cp.async pending\n", me.index);
  me.done = true;
  warp.alive &= ~lane_bit(me);
  warp.ready &= ~lane_bit(me);
  machine.alive--;
  for (int i = 0; i < warp.meeting_count && !machine.failed; i++) {
    Meeting& meeting = warp.meetings[i];
    if (meeting.mask & lane_bit(me)) {
      report("the mask %08x of %s at line %d names a lane that has exited\n", meeting.mask, meeting.name, meeting.line);
    }
  }
  if (machine.failed) abandon();
  let_others_run();
  std::abort();
}

inline void start_block(unsigned x, unsigned y, unsigned z) {
  Machine& m = machine;
  m.block_index = {x, y, z};
  m.alive = m.thread_count;
  m.barrier_count = 0;
  std::memset(m.shared, 0xFF, m.shared_bytes);           // NaN in every float type
  for (int i = 0; i < m.warp_count; i++) m.warps[i].alive = m.warps[i].meeting_count = 0;
  for (int i = 0; i < m.thread_count; i++) {
    Fiber& fiber = m.fibers[i];
    unsigned width = m.block_size.x, height = m.block_size.y;
    fiber.index = i;
    fiber.thread = {i % width, i / width % height, i / (width * height)};
    fiber.done = fiber.in_barrier = false;
    fiber.waits_in = "nothing";
    fiber.copy_count = fiber.copy_group = 0;
    // Stacks that all began at one offset in a page would evict each other from the cache.
    size_t stagger = 192 * (i % 61);
    fiber.stack = m.stacks + i * STACK_BYTES + PAGE;
    fiber.stack_bytes = STACK_BYTES - PAGE - stagger;
    fresh((char*)fiber.stack + fiber.stack_bytes - 2 * PAGE, 2 * PAGE);   // where the last thread's end was left
    prepare(fiber, (char*)fiber.stack, fiber.stack_bytes, run_thread);
    warp_of(fiber).alive |= lane_bit(fiber);
  }
  for (int i = 0; i < m.warp_count; i++) m.warps[i].ready = m.warps[i].alive;
  switch_to(choose_next());
}

inline char* map_memory(size_t bytes) {
  return (char*)mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

// Runs every block in turn. Returns whether the kernel failed; machine.error then says why.
inline int run_grid(dim3 grid, dim3 block, size_t shared_bytes, void (*kernel)(void*), void* arguments) {
  Machine& m = machine;
  m.error[0] = 0;
  m.failed = false;
  m.grid_size = grid;
  m.block_size = block;
  m.thread_count = block.x * block.y * block.z;
  m.warp_count = (m.thread_count + 31) / 32;
  m.kernel = kernel;
  m.kernel_arguments = arguments;
  m.current = &m.main;
  if (m.thread_count < 1 || m.thread_count > MAX_THREADS) report("a block of %d threads\n", m.thread_count);
  if (shared_bytes > LARGEST_SHARED) report("%zu bytes of shared memory, more than 227 KiB\n", shared_bytes);
  if (m.failed) return 1;
  m.stacks = map_memory(m.thread_count * STACK_BYTES);
  fresh(m.stacks, m.thread_count * STACK_BYTES);
  for (int i = 0; i < m.thread_count; i++) mprotect(m.stacks + i * STACK_BYTES, PAGE, PROT_NONE);
  // Shared memory ends at a page without access, with at most 127 bytes between: its start is aligned to 128.
  size_t room = (shared_bytes + 127 + PAGE) / PAGE * PAGE;
  char* pages = map_memory(room + PAGE);
  mprotect(pages + room, PAGE, PROT_NONE);
  m.shared = (unsigned char*)(((uintptr_t)pages + room - shared_bytes) & ~(uintptr_t)127);
  m.shared_bytes = shared_bytes;
  fresh(pages, room);
  forbidden(m.shared + shared_bytes, pages + room - (char*)m.shared - shared_bytes);
  find_own_stack(m.main);

  static char signal_stack[64 << 10];
  stack_t signals = {}, signals_before;
  signals.ss_sp = signal_stack;
  signals.ss_size = sizeof signal_stack;
  sigaltstack(&signals, &signals_before);
  struct sigaction action = {}, before[2];
  action.sa_sigaction = on_wild_address;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigaction(SIGSEGV, &action, &before[0]);
  sigaction(SIGBUS, &action, &before[1]);
#if defined(__x86_64__)
  unsigned rounding = _mm_getcsr();
  _mm_setcsr(rounding | 0x8040);                         // denormals are zero, as with -ftz=true
#endif
  for (unsigned z = 0; z < grid.z && !m.failed; z++) {
    for (unsigned y = 0; y < grid.y && !m.failed; y++) {
      for (unsigned x = 0; x < grid.x && !m.failed; x++) start_block(x, y, z);
    }
  }
#if defined(__x86_64__)
  _mm_setcsr(rounding);
#endif
  sigaction(SIGSEGV, &before[0], nullptr);
  sigaction(SIGBUS, &before[1], nullptr);
  sigaltstack(&signals_before, nullptr);
  fresh(pages, room);                                    // whoever gets this memory next knows nothing of us
  fresh(m.stacks, m.thread_count * STACK_BYTES);
  munmap(pages, room + PAGE);
  munmap(m.stacks, m.thread_count * STACK_BYTES);
  return m.failed;
}

}  // namespace emulator
