#include "core/arena.hpp"

#include <cstdlib>
#include <new>

namespace pfn {

Arena::~Arena() { std::free(data_); }

char* Arena::reserve(std::int64_t bytes) {
  if (bytes <= bytes_) return data_;
  const std::int64_t wanted = align_up(bytes);
  void* block = std::aligned_alloc(kAlign, static_cast<std::size_t>(wanted));
  if (block == nullptr) throw std::bad_alloc();
  std::free(data_);
  data_ = static_cast<char*>(block);
  bytes_ = wanted;
  return data_;
}

}  // namespace pfn
