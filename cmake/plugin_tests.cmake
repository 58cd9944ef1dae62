# SPDX-License-Identifier: Apache-2.0
# Tests of the CUDA plugin, and the other programs once more with the emulator's plugin as their device `cuda`.

# Programs with tests on that device.
set(cumeta_device_tests backend_test bits_test cuda_program_test device_episodes_test golden_test identities_test implementation_test
  launches_test layers_test learner_limits_test learner_rates_test learner_runs_test learner_test learner_uploads_test machines_test
  mlp_program_test outer_step_reference_test running_statistics_test)
# Programs about CUDA that open no such device: its plugin, its errors, its plans and words.
set(cumeta_about_cuda_tests cli_test cuda_errors_test cuda_plugin_test fastest_test fuzz_files_test model_layout_test plan_test)
if(CUMETA_TESTS)
  # What bench/gpu/bundle.sh takes to a machine with a GPU, and check.sh runs there.
  list(JOIN cumeta_device_tests "\n" cumeta_lines)
  list(JOIN cumeta_about_cuda_tests "\n" cumeta_more_lines)
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/cuda_tests.txt CONTENT "@cumeta_lines@\n@cumeta_more_lines@\n" @ONLY)
  add_test(NAME cuda_tests_listed COMMAND ${PROJECT_SOURCE_DIR}/tests/cuda_tests_listed.sh ${PROJECT_BINARY_DIR})
endif()
if(CUMETA_TESTS AND TARGET cumeta_cuda_emulated)
  if(TARGET cuda_plugin_test)
    foreach(library old_plugin foreign_library)
      add_library(${library} MODULE ${PROJECT_SOURCE_DIR}/tests/${library}.cpp)
    endforeach()
    # A vendor plugin whose library is nowhere to be found, as on a machine without cuDNN.
    set(absent_folder ${PROJECT_BINARY_DIR}/absent)
    add_library(absent_vendor SHARED ${PROJECT_SOURCE_DIR}/tests/foreign_library.cpp)
    set_target_properties(absent_vendor PROPERTIES SOVERSION 9 LIBRARY_OUTPUT_DIRECTORY ${absent_folder})
    add_library(broken_vendor MODULE ${PROJECT_SOURCE_DIR}/tests/old_plugin.cpp)
    target_link_options(broken_vendor PRIVATE -Wl,--no-as-needed)
    target_link_libraries(broken_vendor PRIVATE absent_vendor)
    set_target_properties(broken_vendor PROPERTIES SKIP_BUILD_RPATH ON)
    add_dependencies(cuda_plugin_test old_plugin foreign_library broken_vendor cumeta_cuda_emulated)
    # By CUMETA_TEST_BUILD, not by where they are built: a bundle for another machine carries them along.
    target_compile_definitions(cuda_plugin_test PRIVATE CUMETA_OLD_PLUGIN="${CUMETA_TEST_BUILD}/lib/libold_plugin.so"
      CUMETA_BROKEN_VENDOR_PLUGIN="${CUMETA_TEST_BUILD}/lib/libbroken_vendor.so"
      CUMETA_FOREIGN_PLUGIN="${CUMETA_TEST_BUILD}/lib/libforeign_library.so"
      CUMETA_EMULATED_PLUGIN="${CUMETA_TEST_BUILD}/lib/libcumeta_cuda_emulated.so")
  endif()
  if(TARGET cuda_errors_test)
    add_dependencies(cuda_errors_test cumeta_cuda_emulated)
    target_compile_definitions(cuda_errors_test PRIVATE CUMETA_EMULATED_PLUGIN="${CUMETA_TEST_BUILD}/lib/libcumeta_cuda_emulated.so")
  endif()
  foreach(name ${cumeta_device_tests})
    if(NOT TARGET ${name})
      message(FATAL_ERROR "cumeta: there is no test program ${name} to run on the emulated plugin")
    endif()
    add_dependencies(${name} cumeta_cuda_emulated)
    add_test(NAME ${name}.cuda_emulated COMMAND ${name} --gtest_filter=*cuda*:*Cuda*)
    # A filter that meets no test would pass in silence.
    set_tests_properties(${name}.cuda_emulated PROPERTIES TIMEOUT 600 FAIL_REGULAR_EXPRESSION "Running 0 tests"
      ENVIRONMENT "CUMETA_CUDA_PLUGIN=$<TARGET_FILE:cumeta_cuda_emulated>;CUMETA_REQUIRE_CUDA=1;CUMETA_REQUIRE_VENDOR=1")
  endforeach()
endif()
