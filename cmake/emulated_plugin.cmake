# SPDX-License-Identifier: Apache-2.0
# CUDA sources compiled by the C++ compiler for the emulator of tests/emulator, in a build that may also give them to nvcc.
include_guard(GLOBAL)
set(CUMETA_EMULATED_OPTIONS "" CACHE STRING "More compiler options of emulated kernels, as -Og where they change often")
mark_as_advanced(CUMETA_EMULATED_OPTIONS)
set(CUMETA_EMULATOR_DIR ${PROJECT_SOURCE_DIR}/tests/emulator)

# cumeta_emulator: launches, barriers and the runtime API, linked into whatever holds emulated kernels.
function(cumeta_add_emulator)
  if(TARGET cumeta_emulator)
    return()
  endif()
  find_package(Boost 1.74 REQUIRED COMPONENTS context)
  add_library(cumeta_emulator STATIC
    ${CUMETA_EMULATOR_DIR}/block_scheduler.cpp ${CUMETA_EMULATOR_DIR}/emulated_device.cpp ${CUMETA_EMULATOR_DIR}/device_memory.cpp
    ${CUMETA_EMULATOR_DIR}/error_names.cpp ${CUMETA_EMULATOR_DIR}/fiber.cpp ${CUMETA_EMULATOR_DIR}/graphs.cpp ${CUMETA_EMULATOR_DIR}/left_out_barrier.cpp
    ${CUMETA_EMULATOR_DIR}/planned_trouble.cpp ${CUMETA_EMULATOR_DIR}/shared_memory.cpp ${CUMETA_EMULATOR_DIR}/streams.cpp)
  target_include_directories(cumeta_emulator PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(cumeta_emulator PRIVATE Boost::context)
  cumeta_warnings(cumeta_emulator)
  if(CUMETA_SANITIZE MATCHES "thread")
    # The runtime moves between the emulated threads and must not be seen as one of them.
    target_compile_options(cumeta_emulator PRIVATE -fno-sanitize=thread)
    target_compile_definitions(cumeta_emulator PRIVATE CUMETA_EMULATOR_TSAN)
  endif()
endfunction()

# cumeta_add_emulated_objects(target sources...): an object library of .cu files as the emulator runs them.
# Each is compiled through a one-line .cpp that includes it, so that its own language stays what nvcc's rules made it.
function(cumeta_add_emulated_objects target)
  cumeta_add_emulator()
  set(wrappers)
  foreach(source ${ARGN})
    get_filename_component(path ${source} ABSOLUTE)
    file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR} ${path})
    set(wrapper ${PROJECT_BINARY_DIR}/emulated/${target}/${name}.cpp)
    file(GENERATE OUTPUT ${wrapper} CONTENT "#include \"${name}\"\n")
    list(APPEND wrappers ${wrapper})
  endforeach()
  add_library(${target} OBJECT ${wrappers})
  target_include_directories(${target} BEFORE PRIVATE ${CUMETA_EMULATOR_DIR}/include)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include
    ${PROJECT_BINARY_DIR}/generated/include)
  target_compile_definitions(${target} PRIVATE CUMETA_CUDA_EMULATED=1)
  # -fno-strict-aliasing: device code reinterprets memory (float4 loads of float arrays), which nvcc allows.
  target_compile_options(${target} PRIVATE -include ${CUMETA_EMULATOR_DIR}/cuda_emulator.h -fno-strict-aliasing
    ${CUMETA_EMULATED_OPTIONS})
  cumeta_warnings(${target})
  target_link_libraries(${target} PUBLIC cumeta_emulator)
endfunction()

# cumeta_add_emulated_plugin(target sources...): the same as a module to be loaded, lib<target>.so.
function(cumeta_add_emulated_plugin target)
  cumeta_add_emulated_objects(${target}_objects ${ARGN})
  add_library(${target} MODULE)
  target_link_libraries(${target} PRIVATE ${target}_objects cumeta_emulator)
  set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX)
endfunction()
