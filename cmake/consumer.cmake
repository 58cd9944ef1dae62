# SPDX-License-Identifier: Apache-2.0
# Tests of what is installed: `binaries` (shown names, needed libraries), `consumer` (a stranger's projects), and
# of the script for machines with a GPU: `gpu_check_dry_run` on the emulated plugin, `gpu_check_failures` on planted failures.
if(CUMETA_TESTS AND TARGET cumeta_program AND NOT CUMETA_SANITIZE)
  set(plugins)
  if(TARGET cumeta_cuda)
    list(APPEND plugins $<TARGET_FILE:cumeta_cuda>)
  elseif(TARGET cumeta_cuda_vendor)
    list(APPEND plugins -)
  endif()
  if(TARGET cumeta_cuda_vendor)
    list(APPEND plugins $<TARGET_FILE:cumeta_cuda_vendor>)
  endif()
  add_test(NAME binaries COMMAND ${PROJECT_SOURCE_DIR}/tests/consumer/check_binaries.sh
    $<TARGET_FILE:cumeta> $<TARGET_FILE:cumeta_program> ${plugins})
  set(emulated)
  if(TARGET cumeta_cuda_emulated)
    set(emulated $<TARGET_FILE:cumeta_cuda_emulated>)
  endif()
  add_test(NAME consumer
    COMMAND ${PROJECT_SOURCE_DIR}/tests/consumer/run.sh ${PROJECT_BINARY_DIR} ${CMAKE_CXX_COMPILER} ${emulated})
  set_tests_properties(binaries consumer PROPERTIES LABELS packaging TIMEOUT 600)
  set_tests_properties(consumer PROPERTIES LABELS "packaging;slow")
  if(emulated)
    add_test(NAME gpu_check_dry_run COMMAND ${PROJECT_SOURCE_DIR}/bench/gpu/check.sh --dry-run
      --build ${PROJECT_BINARY_DIR} --out ${PROJECT_BINARY_DIR}/gpu_check_dry_run)
    set_tests_properties(gpu_check_dry_run PROPERTIES LABELS "packaging;slow" TIMEOUT 900)
    add_test(NAME gpu_check_failures COMMAND ${PROJECT_SOURCE_DIR}/tests/gpu_check_test.sh ${PROJECT_BINARY_DIR})
    set_tests_properties(gpu_check_failures PROPERTIES LABELS packaging TIMEOUT 300)
  endif()
endif()
