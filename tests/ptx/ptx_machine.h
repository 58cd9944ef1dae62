// SPDX-License-Identifier: Apache-2.0
// Runs a kernel's grid: blocks one after another, the threads of a block in a random order from barrier to barrier.
#pragma once
#include <array>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <type_traits>

#include "tests/ptx/ptx_memory.h"
#include "tests/ptx/ptx_module.h"

namespace cumeta::ptx {

struct Dim {
  int x = 1, y = 1, z = 1;
  int size() const { return x * y * z; }
};

struct Launch {
  Dim grid, block;
  std::size_t dynamic_shared = 0;
};

/// One value per kernel parameter, as bytes.
using Argument = std::vector<std::uint8_t>;
template <class Value>
Argument argument(const Value& value) {
  static_assert(std::is_trivially_copyable_v<Value>);
  Argument bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

class Machine {
 public:
  explicit Machine(Module module, unsigned seed = 1);

  /// An array in global memory; reading what nobody wrote is a fault.
  template <class T>
  T* allocate(const std::string& name, std::size_t count) {
    return reinterpret_cast<T*>(memory_.allocate(name, count * sizeof(T), false));
  }
  template <class T>
  T* upload(const std::string& name, const std::vector<T>& values) {
    T* address = allocate<T>(name, values.size());
    const auto [bytes, offset] = locate(address, values.size() * sizeof(T));
    std::memcpy(bytes->data() + offset, values.data(), values.size() * sizeof(T));
    bytes->set_initialised(offset, values.size() * sizeof(T));
    return address;
  }
  /// Throws Fault{uninitialised} when something in it was never written.
  template <class T>
  std::vector<T> download(const T* address, std::size_t count) {
    const auto [bytes, offset] = locate(address, count * sizeof(T));
    for (std::size_t i = 0; i < count * sizeof(T); ++i)
      if (!bytes->initialised(offset + i))
        throw Fault(FaultKind::uninitialised,
                    bytes->name() + " + " + std::to_string(i) + ": downloaded, but never written");
    std::vector<T> values(count);
    std::memcpy(values.data(), bytes->data() + offset, count * sizeof(T));
    return values;
  }

  /// Throws Fault; its text names the kernel, the instruction, the block and the thread.
  void run(const Kernel& kernel, const Launch& launch, const std::vector<Argument>& arguments);
  const Module& module() const { return module_; }
  GlobalMemory& memory() { return memory_; }
  std::int64_t instructions() const { return instructions_; }  ///< executed so far, by all threads

 private:
  enum class State { running, at_barrier, at_warp, done };
  struct Copy {
    std::uint64_t to = 0, from = 0;
    int bytes = 0, source_bytes = 0, group = 0;
  };
  struct Thread {
    std::vector<std::uint64_t> registers;
    std::unique_ptr<CheckedBytes> local;
    std::vector<Copy> copies;
    int groups = 0;            ///< cp.async groups committed
    std::int64_t fenced = -1;  ///< the barrier interval of the last fence
    Knowledge heard;           ///< by strong loads; known after a fence
    int pc = 0;
    State state = State::running;
    Dim at;
  };

  std::pair<CheckedBytes*, std::size_t> locate(const void* address, std::size_t count);
  void run_block();
  void run_thread(int index);
  void step_arithmetic(int index, const Instruction& i);
  void step_memory(int index, const Instruction& i);
  void move(int index, const Instruction& i);
  void copy_async_wait(int index, const Instruction& i);
  void synchronise_atomic(int index, std::uint64_t address);
  void fence(int index);
  bool run_warp(int warp);
  bool meet(int warp, int lane);
  void shuffle(const Instruction& i, int warp, std::uint32_t mask);
  void vote(const Instruction& i, int warp, std::uint32_t mask);
  void join_clocks(int warp, std::uint32_t mask);
  void multiply_matrices(const Instruction& i, int warp);
  void release_barrier();

  std::uint64_t value(const Operand& operand, int index) const;
  std::uint64_t special(std::uint64_t number, int index) const;
  void set(const Operand& operand, int index, std::uint64_t bits);
  std::uint64_t address(const Operand& operand, int index) const;
  /// The bytes behind an address of a space, bounds and alignment checked, the access recorded.
  std::uint8_t* reach(Space space, std::uint64_t address, int count, Access access, int index);
  std::pair<CheckedBytes*, std::size_t> resolve(Space space, std::uint64_t address, int count, int index);
  Accessor accessor(int index) const;
  std::uint32_t full_mask(int warp) const;
  [[noreturn]] void rethrow(const Fault& fault, int index) const;

  Module module_;
  GlobalMemory memory_;
  std::mt19937 random_;
  std::int64_t instructions_ = 0;
  std::int64_t interval_ = 1, launch_start_ = 1, block_start_ = 1;

  const Kernel* kernel_ = nullptr;
  Launch launch_;
  Dim block_at_;
  std::vector<std::uint8_t> parameters_;
  std::unique_ptr<CheckedBytes> shared_;
  std::vector<Thread> threads_;
  std::vector<std::array<int, 32>> clocks_;       ///< per thread: what it has seen of its warp's lanes
  Knowledge knowledge_;                           ///< of the running block
  std::map<std::uint64_t, Knowledge> published_;  ///< of this launch, per address of an atomic
  int latest_clock_ = 0;                          ///< of all
};

}  // namespace cumeta::ptx
