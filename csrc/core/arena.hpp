// One aligned block of memory that only grows: every buffer the core owns comes through here.
#pragma once
#include <cstdint>

namespace pfn {

class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // At least `bytes`, 64-byte aligned; earlier contents are lost when it grows. Throws std::bad_alloc.
  char* reserve(std::int64_t bytes);
  char* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }

 private:
  char* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

constexpr std::int64_t kAlign = 64;
constexpr std::int64_t align_up(std::int64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

}  // namespace pfn
