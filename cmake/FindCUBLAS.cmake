# SPDX-License-Identifier: Apache-2.0
# Finds cuBLAS and the toolkit's headers: CUBLAS_FOUND, target CUBLAS::cublas. Looked for where nvcc lies (CUMETA_NVCC), in
# CUDA_PATH, /usr/local/cuda and the system's folders.
set(cublas_toolkit)
if(CUMETA_NVCC)
  get_filename_component(cublas_toolkit ${CUMETA_NVCC} REALPATH)
  get_filename_component(cublas_toolkit ${cublas_toolkit} DIRECTORY)
  get_filename_component(cublas_toolkit ${cublas_toolkit} DIRECTORY)
endif()
set(cublas_places ${cublas_toolkit} $ENV{CUDA_PATH} /usr/local/cuda)
find_path(CUBLAS_INCLUDE_DIR cublas_v2.h HINTS ${cublas_places}
  PATH_SUFFIXES include targets/${CMAKE_SYSTEM_PROCESSOR}-linux/include)
find_library(CUBLAS_LIBRARY cublas HINTS ${cublas_places} PATH_SUFFIXES lib64 lib targets/${CMAKE_SYSTEM_PROCESSOR}-linux/lib)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CUBLAS REQUIRED_VARS CUBLAS_LIBRARY CUBLAS_INCLUDE_DIR)
mark_as_advanced(CUBLAS_INCLUDE_DIR CUBLAS_LIBRARY)
if(CUBLAS_FOUND AND NOT TARGET CUBLAS::cublas)
  add_library(CUBLAS::cublas UNKNOWN IMPORTED)
  set_target_properties(CUBLAS::cublas PROPERTIES IMPORTED_LOCATION ${CUBLAS_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${CUBLAS_INCLUDE_DIR})
endif()
