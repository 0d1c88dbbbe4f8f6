# Warnings of all our own C++; errors only when asked for (-DPFN_WERROR=ON), since a newer compiler must not break a user's build.
add_library(pfn_warnings INTERFACE)
target_compile_options(pfn_warnings INTERFACE -Wall -Wextra -Wconversion -Wshadow)
if(PFN_WERROR)
  target_compile_options(pfn_warnings INTERFACE -Werror)
endif()
