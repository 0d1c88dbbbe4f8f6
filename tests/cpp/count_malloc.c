// Counts allocations of a process it is preloaded into (glibc): cc -shared -fPIC -O1 count_malloc.c -o count_malloc.so
#include <errno.h>
#include <stddef.h>

extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);

static long count;

long allocations(void) { return __atomic_load_n(&count, __ATOMIC_SEQ_CST); }

static void note(void) { __atomic_fetch_add(&count, 1, __ATOMIC_SEQ_CST); }

void* malloc(size_t bytes) {
  note();
  return __libc_malloc(bytes);
}

void* calloc(size_t items, size_t bytes) {
  note();
  return __libc_calloc(items, bytes);
}

void* realloc(void* block, size_t bytes) {
  note();
  return __libc_realloc(block, bytes);
}

void* memalign(size_t alignment, size_t bytes) {
  note();
  return __libc_memalign(alignment, bytes);
}

void* aligned_alloc(size_t alignment, size_t bytes) {
  note();
  return __libc_memalign(alignment, bytes);
}

int posix_memalign(void** block, size_t alignment, size_t bytes) {
  note();
  *block = __libc_memalign(alignment, bytes);
  return *block == NULL ? ENOMEM : 0;
}
