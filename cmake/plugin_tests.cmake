# SPDX-License-Identifier: Apache-2.0
# Tests of the CUDA plugin, and the other programs once more with the emulator's plugin as their device `cuda`.
if(CUMETA_TESTS AND TARGET cumeta_cuda_emulated)
  if(TARGET cuda_plugin_test)
    foreach(library old_plugin foreign_library)
      add_library(${library} MODULE ${PROJECT_SOURCE_DIR}/tests/${library}.cpp)
    endforeach()
    add_dependencies(cuda_plugin_test old_plugin foreign_library cumeta_cuda_emulated)
    target_compile_definitions(cuda_plugin_test PRIVATE CUMETA_OLD_PLUGIN="$<TARGET_FILE:old_plugin>"
      CUMETA_FOREIGN_PLUGIN="$<TARGET_FILE:foreign_library>" CUMETA_EMULATED_PLUGIN="$<TARGET_FILE:cumeta_cuda_emulated>")
  endif()
  if(TARGET cuda_errors_test)
    add_dependencies(cuda_errors_test cumeta_cuda_emulated)
    target_compile_definitions(cuda_errors_test PRIVATE CUMETA_EMULATED_PLUGIN="$<TARGET_FILE:cumeta_cuda_emulated>")
  endif()
  foreach(name layers_test backend_test outer_step_test outer_step_reference_test device_episodes_test mlp_program_test learner_test golden_test launches_test)
    if(NOT TARGET ${name})
      message(FATAL_ERROR "cumeta: there is no test program ${name} to run on the emulated plugin")
    endif()
    add_dependencies(${name} cumeta_cuda_emulated)
    add_test(NAME ${name}.cuda_emulated COMMAND ${name} --gtest_filter=*cuda*:*Cuda*)
    # A filter that meets no test would pass in silence.
    set_tests_properties(${name}.cuda_emulated PROPERTIES TIMEOUT 600 FAIL_REGULAR_EXPRESSION "Running 0 tests"
      ENVIRONMENT "CUMETA_CUDA_PLUGIN=$<TARGET_FILE:cumeta_cuda_emulated>;CUMETA_REQUIRE_CUDA=1")
  endforeach()
endif()
