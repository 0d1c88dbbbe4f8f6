# pfn_add_isa(name flags...): compile every file of csrc/kernels once for an instruction set, into namespace pfn::<name>.
# The objects are linked into one module; csrc/ops/dispatch.cpp picks a table when the package is imported.
function(pfn_add_isa name)
  set(target pfn_kernels_${name})
  string(TOUPPER ${name} upper)
  add_library(${target} OBJECT ${PFN_KERNEL_SOURCES})
  target_compile_definitions(${target} PRIVATE PFN_ISA=${name} PFN_ISA_${upper}=1)
  target_compile_options(${target} PRIVATE ${ARGN} -fno-exceptions -fno-rtti -fvisibility=hidden)
  target_link_libraries(${target} PRIVATE pfn_options)
  target_compile_definitions(pfn_isas INTERFACE PFN_HAVE_${upper}=1)
  target_sources(pfn_isas INTERFACE $<TARGET_OBJECTS:${target}>)
endfunction()
