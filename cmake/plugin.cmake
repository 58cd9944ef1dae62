# SPDX-License-Identifier: Apache-2.0
# The CUDA column: libcumeta_cuda.so by nvcc, and the same sources for the emulator, libcumeta_cuda_emulated.so.
set(CUMETA_CUDA_ARCHITECTURES "90" CACHE STRING "Compute capabilities of the CUDA plugin, as CMAKE_CUDA_ARCHITECTURES")
option(CUMETA_EMULATED_CUDA "Build the CUDA plugin of the emulator, for tests without a GPU" ${CUMETA_TESTS})

# --- the id of the border: library and plugin must be of one build ------------------------------------------------
set(cumeta_build_id ${PROJECT_BINARY_DIR}/generated/plugin/plugin_build_id.h)
file(GLOB cumeta_border CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/cumeta/*.h ${PROJECT_SOURCE_DIR}/kernels/*.h
  ${PROJECT_SOURCE_DIR}/kernels/layers/*.h ${PROJECT_SOURCE_DIR}/kernels/programs/*.h)
add_custom_command(OUTPUT ${cumeta_build_id}
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${PROJECT_SOURCE_DIR} -DOUTPUT=${cumeta_build_id} -DVERSION=${PROJECT_VERSION}
    "-DCOMPILER=${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} ${CMAKE_SYSTEM_PROCESSOR}"
    -P ${PROJECT_SOURCE_DIR}/cmake/build_id.cmake
  DEPENDS ${cumeta_border} ${PROJECT_SOURCE_DIR}/cmake/build_id.cmake
  COMMENT "Id of the plugin border" VERBATIM)
add_custom_target(cumeta_build_id_header DEPENDS ${cumeta_build_id})
add_dependencies(cumeta_core cumeta_build_id_header)
target_include_directories(cumeta_core PRIVATE ${PROJECT_BINARY_DIR}/generated/plugin)

file(GLOB_RECURSE cumeta_cuda_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*_cuda.cu)

# --- the plugin ---------------------------------------------------------------------------------------------------
find_program(CUMETA_NVCC nvcc HINTS $ENV{CUDA_PATH}/bin /usr/local/cuda/bin)
if(CUMETA_CUDA STREQUAL "ON" OR (CUMETA_CUDA STREQUAL "AUTO" AND CUMETA_NVCC))
  if(NOT CUMETA_NVCC)
    message(FATAL_ERROR "CUMETA_CUDA=ON, but nvcc was not found: install the CUDA toolkit 13 or set CUDA_PATH")
  endif()
  set(CMAKE_CUDA_COMPILER ${CUMETA_NVCC})
  set(CMAKE_CUDA_ARCHITECTURES ${CUMETA_CUDA_ARCHITECTURES})
  if(CUMETA_CCACHE)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CUMETA_CCACHE})
  endif()
  enable_language(CUDA)
  add_library(cumeta_cuda MODULE ${cumeta_cuda_sources})
  add_dependencies(cumeta_cuda cumeta_build_id_header)
  string(REPLACE ";" " " cumeta_architecture_list "${CUMETA_CUDA_ARCHITECTURES}")
  target_compile_definitions(cumeta_cuda PRIVATE CUMETA_CUDA_ARCHITECTURE_LIST="sm ${cumeta_architecture_list}")
  target_include_directories(cumeta_cuda PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include
    ${PROJECT_BINARY_DIR}/generated/include ${PROJECT_BINARY_DIR}/generated/plugin)
  # CMake 3.25 does not know C++20 of this nvcc, so the standard is named here and CUDA_STANDARD stays unset.
  target_compile_options(cumeta_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20 -Xptxas=-warn-spills
    -Xcompiler=-Wall,-Wextra>)
  if(CUMETA_WERROR)
    target_compile_options(cumeta_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-Werror>)
  endif()
  set_target_properties(cumeta_cuda PROPERTIES CUDA_VISIBILITY_PRESET hidden CUDA_RUNTIME_LIBRARY Static
    POSITION_INDEPENDENT_CODE ON)
  target_link_options(cumeta_cuda PRIVATE -Wl,--exclude-libs,ALL -Wl,--no-undefined -Wl,-z,defs)
  target_link_libraries(cumeta_cuda PRIVATE ${CMAKE_DL_LIBS})
endif()

# --- cuBLAS and cuDNN, in a plugin of their own ---------------------------------------------------------------------
# Host code alone: it needs the toolkit's headers and the two libraries, no nvcc.
set(CUMETA_VENDOR AUTO CACHE STRING "Build the plugin of cuBLAS and cuDNN: ON, OFF or AUTO (with the CUDA plugin, when both are found)")
if(CUMETA_VENDOR STREQUAL "ON" OR (CUMETA_VENDOR STREQUAL "AUTO" AND TARGET cumeta_cuda))
  find_package(CUBLAS MODULE QUIET)
  find_package(CUDNN 9 MODULE QUIET)
  if(CUBLAS_FOUND AND CUDNN_FOUND)
    message(STATUS "Vendor plugin: ${CUBLAS_LIBRARY}, cuDNN ${CUDNN_VERSION} in ${CUDNN_LIBRARY}")
    add_library(cumeta_cuda_vendor MODULE ${PROJECT_SOURCE_DIR}/kernels/plugin_vendor.cpp)
    add_dependencies(cumeta_cuda_vendor cumeta_build_id_header)
    target_include_directories(cumeta_cuda_vendor PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include
      ${PROJECT_BINARY_DIR}/generated/include ${PROJECT_BINARY_DIR}/generated/plugin)
    target_link_libraries(cumeta_cuda_vendor PRIVATE CUBLAS::cublas CUDNN::cudnn)
    cumeta_warnings(cumeta_cuda_vendor)
  elseif(CUMETA_VENDOR STREQUAL "ON")
    message(FATAL_ERROR "CUMETA_VENDOR=ON, but cuBLAS (found: ${CUBLAS_LIBRARY}) and cuDNN 9 (found: ${CUDNN_LIBRARY}) "
      "are not both here: install them, or set CUDA_PATH and CUDNN_ROOT")
  else()
    message(STATUS "Vendor plugin: not built; cuBLAS found: ${CUBLAS_LIBRARY}, cuDNN 9 found: ${CUDNN_LIBRARY} (set CUDNN_ROOT)")
  endif()
endif()

# --- the emulator's -----------------------------------------------------------------------------------------------
if(CUMETA_EMULATED_CUDA AND EXISTS ${PROJECT_SOURCE_DIR}/cmake/emulated_plugin.cmake)
  include(${PROJECT_SOURCE_DIR}/cmake/emulated_plugin.cmake)
  cumeta_add_emulated_plugin(cumeta_cuda_emulated ${cumeta_cuda_sources}
    ${PROJECT_SOURCE_DIR}/tests/emulator/vendor_models.cu)
  add_dependencies(cumeta_cuda_emulated_objects cumeta_build_id_header)
  target_include_directories(cumeta_cuda_emulated_objects PRIVATE ${PROJECT_BINARY_DIR}/generated/plugin)
endif()
