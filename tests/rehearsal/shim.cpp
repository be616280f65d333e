// A CUDA device in the memory of the CPU, for a build of torch without CUDA. This file has what the
// dispatcher, the autograd engine and the allocator of torch ask of a device. The kernels are in
// kernels.py.
#include <ATen/EmptyTensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/ScopeExit.h>
#include <torch/library.h>
#include <atomic>
#include <map>
#include <mutex>
#include <unordered_map>

namespace {
using namespace c10;
constexpr DeviceIndex kDevices = 2;
// As in CUDA, the current device and the current streams belong to a thread.
thread_local DeviceIndex current = 0;
thread_local StreamId streams[kDevices] = {0, 0};
std::atomic<StreamId> last_stream{0};
std::atomic<int64_t> allocated[kDevices], peak[kDevices], limit[kDevices];

// ---- Devices and streams. Work is done at once, so nothing ever waits here; streams.py keeps
// account of what would wait.
struct Guard final : impl::DeviceGuardImplInterface {
  static DeviceIndex index(Device d) { return d.has_index() ? d.index() : current; }
  DeviceType type() const override { return kCUDA; }
  Device getDevice() const override { return Device(kCUDA, current); }
  Device exchangeDevice(Device d) const override { auto old = getDevice(); setDevice(d); return old; }
  void setDevice(Device d) const override {
    TORCH_CHECK(index(d) < kDevices, "CUDA error: invalid device ordinal");
    current = index(d);
  }
  void uncheckedSetDevice(Device d) const noexcept override { current = index(d); }
  Stream getStream(Device d) const override {
    return Stream(Stream::UNSAFE, Device(kCUDA, index(d)), streams[index(d)]);
  }
  Stream getDefaultStream(Device d) const override { return Stream(Stream::UNSAFE, Device(kCUDA, index(d)), 0); }
  Stream getNewStream(Device d, int) const override {
    return Stream(Stream::UNSAFE, Device(kCUDA, index(d)), ++last_stream);
  }
  Stream exchangeStream(Stream s) const override {
    auto old = getStream(s.device());
    streams[index(s.device())] = s.id();
    return old;
  }
  DeviceIndex deviceCount() const noexcept override { return kDevices; }
  void record(void**, const Stream&, const DeviceIndex, const EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  void destroyEvent(void*, const DeviceIndex) const noexcept override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override {}
  void synchronizeDevice(const DeviceIndex) const override {}
  void recordDataPtrOnStream(const DataPtr&, const Stream&) const override {}
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard);

// ---- Memory. Each block has a number and belongs to the stream that was current when it was made.
std::mutex mutex;
std::unordered_map<void*, std::pair<int64_t, StreamId>> blocks;
int64_t n_blocks = 0;
// Called with the number and the size of a new block, where somebody looks for leaks.
std::atomic<void (*)(int64_t, int64_t)> listener{nullptr};

struct Block {
  DataPtr memory;
  DeviceIndex device;
  int64_t size;
};
void release(void* at) {
  auto* block = static_cast<Block*>(at);
  allocated[block->device] -= block->size;
  std::lock_guard<std::mutex> lock(mutex);
  blocks.erase(block->memory.get());
  delete block;
}
struct Memory final : Allocator {
  DataPtr allocate(size_t n) override {
    auto size = int64_t(n + 511) / 512 * 512, now = allocated[current] + size;
    TORCH_CHECK_WITH(OutOfMemoryError, now <= limit[current], "CUDA out of memory. Tried to allocate ", size,
                     " bytes. GPU ", int(current), " has ", limit[current] - allocated[current], " bytes free. (rehearsal)");
    auto* block = new Block{GetCPUAllocator()->allocate(n ? n : 1), current, size};
    allocated[current] += size;
    if (now > peak[current]) peak[current] = now;
    // What no kernel has written yet is NaN, in every floating dtype.
    std::memset(block->memory.get(), 0xff, n);
    int64_t number;
    {
      std::lock_guard<std::mutex> lock(mutex);
      number = ++n_blocks;
      blocks[block->memory.get()] = {number, streams[current]};
    }
    // Outside the lock: the listener takes the GIL, whose holder may be waiting for the lock.
    if (auto listen = listener.load()) listen(number, size);
    return DataPtr(n ? block->memory.get() : nullptr, block, &release, Device(kCUDA, current));
  }
  DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t n) const override { std::memcpy(to, from, n); }
};
Memory memory;

// Memory of the host that a device reads by itself.
struct PinnedMemory final : Allocator {
  mutable std::mutex mutex;
  std::map<const char*, size_t> held;
  DataPtr allocate(size_t n) override;
  DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t n) const override { std::memcpy(to, from, n); }
  bool holds(const void* at) const {
    std::lock_guard<std::mutex> lock(mutex);
    auto next = held.upper_bound(static_cast<const char*>(at));
    return next != held.begin() && (--next, static_cast<const char*>(at) < next->first + next->second);
  }
};
PinnedMemory pinned_memory;
void unpin(void* at) {
  auto* memory = static_cast<DataPtr*>(at);
  std::lock_guard<std::mutex> lock(pinned_memory.mutex);
  pinned_memory.held.erase(static_cast<const char*>(memory->get()));
  delete memory;
}
DataPtr PinnedMemory::allocate(size_t n) {
  auto* memory = new DataPtr(GetCPUAllocator()->allocate(n ? n : 1));
  std::lock_guard<std::mutex> lock(mutex);
  held[static_cast<const char*>(memory->get())] = n ? n : 1;
  return DataPtr(memory->get(), memory, &unpin, Device(kCPU));
}

struct CUDAHooks final : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  Allocator* getPinnedMemoryAllocator() const override { return &pinned_memory; }
  bool isPinnedPtr(const void* at) const override { return pinned_memory.holds(at); }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex current_device() const override { return current; }
  DeviceIndex deviceCount() const override { return kDevices; }
  DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(DeviceIndex i) const override { current = i; }
  DeviceIndex exchangeDevice(DeviceIndex i) const override { auto old = current; current = i; return old; }
  DeviceIndex maybeExchangeDevice(DeviceIndex i) const override { return exchangeDevice(i); }
};

struct Register {
  Register() {
    SetAllocator(kCUDA, &memory);
    for (auto& bytes : limit) bytes = INT64_MAX;
  }
} registered;

// ---- Tensors that no kernel has written, and views, which share memory.
at::Tensor empty(IntArrayRef size, std::optional<ScalarType> dtype, std::optional<Layout>,
                 std::optional<Device> device, std::optional<bool>, std::optional<MemoryFormat> format) {
  impl::VirtualGuardImpl guard(kCUDA);
  auto old = guard.exchangeDevice(device.value_or(guard.getDevice()));
  auto restore = c10::make_scope_exit([&] { guard.setDevice(old); });
  return at::detail::empty_generic(size, &memory, DispatchKeySet(DispatchKey::CUDA), dtype_or_default(dtype), format);
}
at::Tensor empty_strided(IntArrayRef size, IntArrayRef stride, std::optional<ScalarType> dtype,
                         std::optional<Layout>, std::optional<Device> device, std::optional<bool>) {
  impl::VirtualGuardImpl guard(kCUDA);
  auto old = guard.exchangeDevice(device.value_or(guard.getDevice()));
  auto restore = c10::make_scope_exit([&] { guard.setDevice(old); });
  return at::detail::empty_strided_generic(size, stride, &memory, DispatchKeySet(DispatchKey::CUDA), dtype_or_default(dtype));
}
}  // namespace

namespace at {
REGISTER_CUDA_HOOKS(CUDAHooks);
}

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("set_.source_Storage_storage_offset", at::native::set_storage_cpu_);
  m.impl("set_.source_Storage", static_cast<at::Tensor& (*)(at::Tensor&, Storage)>(at::native::set_));
}

// ---- What the Python files ask for.
extern "C" {
int64_t rehearsal_allocated(int i) { return allocated[i]; }
int64_t rehearsal_peak(int i) { return peak[i]; }
void rehearsal_reset_peak(int i) { peak[i] = allocated[i].load(); }
void rehearsal_set_limit(int i, int64_t bytes) { limit[i] = bytes; }
int rehearsal_exchange_device(int i) { int old = current; if (i >= 0) current = i; return old; }
int64_t rehearsal_stream(int i) { return streams[i]; }
void rehearsal_listen(void (*f)(int64_t, int64_t)) { listener = f; }
// Number of the block at an address, and its stream; -1 where there is none.
int64_t rehearsal_block(void* at, int64_t* stream) {
  std::lock_guard<std::mutex> lock(mutex);
  auto found = blocks.find(at);
  if (found == blocks.end()) return -1;
  *stream = found->second.second;
  return found->second.first;
}
// Numbers of the blocks in use: at most `room` of them are written, their number is returned.
int64_t rehearsal_held(int64_t* numbers, int64_t room) {
  std::lock_guard<std::mutex> lock(mutex);
  int64_t n = 0;
  for (auto& block : blocks) if (n++ < room) numbers[n - 1] = block.second.first;
  return n;
}
}
