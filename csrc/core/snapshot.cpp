#include "core/snapshot.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace pfn {
namespace {

std::vector<const Value*> state_of(const Plan& plan, const StepList& list) {
  std::vector<const Value*> found;
  for (const PointerSlot& slot : list.slots) {
    const Value& value = plan.values()[static_cast<std::size_t>(slot.value)];
    if (!slot.output || value.advance != Advance::none || value.data == nullptr) continue;
    if (std::find(found.begin(), found.end(), &value) == found.end()) found.push_back(&value);
  }
  return found;
}

std::int64_t bytes_of(const Value& value) { return value.bound_items * item_size(value.bound_dtype); }

// Exponent bits all set mean infinity or NaN. Blocks keep the loop free of branches, and end it early.
template <class Bits>
bool bits_are_finite(const void* data, std::int64_t items, Bits exponent) {
  constexpr std::int64_t kBlock = 4096;
  const auto* bits = static_cast<const Bits*>(data);
  for (std::int64_t begin = 0; begin < items; begin += kBlock) {
    const std::int64_t end = std::min(begin + kBlock, items);
    Bits bad = 0;
    for (std::int64_t i = begin; i < end; ++i) bad |= (bits[i] & exponent) == exponent ? Bits{1} : Bits{0};
    if (bad != 0) return false;
  }
  return true;
}

// From so many bytes on a snapshot would push more out of the caches than it is worth: it is read back only in trouble.
constexpr std::int64_t kPastCaches = 1 << 20;

// Copies past the caches. `to` is aligned to kAlign and has room up to the next multiple of it.
void copy_past(char* to, const void* from, std::int64_t bytes) {
#if defined(__SSE2__)
  const auto* source = static_cast<const char*>(from);
  std::int64_t at = 0;
  for (; at + kAlign <= bytes; at += kAlign)
    for (std::int64_t k = 0; k < kAlign; k += 16)
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + at + k),
                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + at + k)));
  std::memcpy(to + at, source + at, static_cast<std::size_t>(bytes - at));
  _mm_sfence();
#else
  std::memcpy(to, from, static_cast<std::size_t>(bytes));
#endif
}

}  // namespace

void save_state(Plan& plan, const StepList& list) {
  const std::vector<const Value*> state = state_of(plan, list);
  std::int64_t bytes = 0;
  for (const Value* value : state) bytes += align_up(bytes_of(*value));
  char* at = plan.snapshot.reserve(bytes);
  plan.snapshot_of = &list;
  for (const Value* value : state) {
    if (bytes >= kPastCaches)
      copy_past(at, value->data, bytes_of(*value));
    else
      std::memcpy(at, value->data, static_cast<std::size_t>(bytes_of(*value)));
    at += align_up(bytes_of(*value));
  }
}

void restore_state(Plan& plan, const StepList& list) {
  const std::vector<const Value*> state = state_of(plan, list);
  if (plan.snapshot_of != &list)
    throw std::runtime_error("plan: no snapshot of '" + list.name + "' was taken to restore");
  const char* at = plan.snapshot.data();
  for (const Value* value : state) {
    std::memcpy(value->data, at, static_cast<std::size_t>(bytes_of(*value)));
    at += align_up(bytes_of(*value));
  }
}

bool state_is_finite(const Plan& plan, const StepList& list) {
  for (const Value* value : state_of(plan, list)) {
    if (value->bound_dtype == DType::f32 &&
        !bits_are_finite<std::uint32_t>(value->data, value->bound_items, 0x7f800000u))
      return false;
    if (value->bound_dtype == DType::f64 &&
        !bits_are_finite<std::uint64_t>(value->data, value->bound_items, 0x7ff0000000000000ull))
      return false;
  }
  return true;
}

}  // namespace pfn
