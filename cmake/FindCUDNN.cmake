# SPDX-License-Identifier: Apache-2.0
# Finds cuDNN 9: CUDNN_FOUND, CUDNN_VERSION, target CUDNN::cudnn. Looked for in CUDNN_ROOT (variable or environment), the CUDA
# toolkit's folders (CUMETA_NVCC, CUDA_PATH, /usr/local/cuda) and the system's, multiarch included.
set(cudnn_toolkit)
if(CUMETA_NVCC)
  get_filename_component(cudnn_toolkit ${CUMETA_NVCC} REALPATH)
  get_filename_component(cudnn_toolkit ${cudnn_toolkit} DIRECTORY)
  get_filename_component(cudnn_toolkit ${cudnn_toolkit} DIRECTORY)
endif()
set(cudnn_places ${CUDNN_ROOT} $ENV{CUDNN_ROOT} ${cudnn_toolkit} $ENV{CUDA_PATH} /usr/local/cuda)
find_path(CUDNN_INCLUDE_DIR cudnn_version.h HINTS ${cudnn_places}
  PATH_SUFFIXES include include/${CMAKE_LIBRARY_ARCHITECTURE} targets/${CMAKE_SYSTEM_PROCESSOR}-linux/include)
find_library(CUDNN_LIBRARY NAMES cudnn libcudnn.so.9 HINTS ${cudnn_places}
  PATH_SUFFIXES lib64 lib lib/${CMAKE_LIBRARY_ARCHITECTURE} targets/${CMAKE_SYSTEM_PROCESSOR}-linux/lib)
if(CUDNN_INCLUDE_DIR)
  set(cudnn_numbers)
  foreach(part MAJOR MINOR PATCHLEVEL)
    file(STRINGS ${CUDNN_INCLUDE_DIR}/cudnn_version.h cudnn_line REGEX "^#define CUDNN_${part} [0-9]+")
    string(REGEX REPLACE ".* ([0-9]+).*" "\\1" cudnn_number "${cudnn_line}")
    list(APPEND cudnn_numbers ${cudnn_number})
  endforeach()
  list(JOIN cudnn_numbers "." CUDNN_VERSION)
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CUDNN REQUIRED_VARS CUDNN_LIBRARY CUDNN_INCLUDE_DIR VERSION_VAR CUDNN_VERSION)
mark_as_advanced(CUDNN_INCLUDE_DIR CUDNN_LIBRARY)
if(CUDNN_FOUND AND NOT TARGET CUDNN::cudnn)
  add_library(CUDNN::cudnn UNKNOWN IMPORTED)
  set_target_properties(CUDNN::cudnn PROPERTIES IMPORTED_LOCATION ${CUDNN_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${CUDNN_INCLUDE_DIR})
endif()
