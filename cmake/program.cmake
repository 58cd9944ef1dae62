# SPDX-License-Identifier: Apache-2.0
# The command line: build/bin/cumeta. It links the shared library and sees its public headers only; atomic_file.cpp, which
# writes its logs and tables, is compiled into both.
file(GLOB cumeta_app_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/app/*.cpp)
if(cumeta_app_sources)
  find_package(CLI11 REQUIRED)
  file(READ ${PROJECT_SOURCE_DIR}/recipes/sinusoid_maml.toml CUMETA_DEFAULT_RECIPE)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/recipes/sinusoid_maml.toml)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/default_recipe.h.in ${PROJECT_BINARY_DIR}/generated/app/default_recipe.h @ONLY)
  add_executable(cumeta_program ${cumeta_app_sources} ${PROJECT_SOURCE_DIR}/src/atomic_file.cpp)
  set_target_properties(cumeta_program PROPERTIES OUTPUT_NAME cumeta)
  target_include_directories(cumeta_program PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/generated/app)
  target_link_libraries(cumeta_program PRIVATE cumeta fmt::fmt nlohmann_json::nlohmann_json PkgConfig::tomlplusplus
    CLI11::CLI11 PNG::PNG)
  cumeta_warnings(cumeta_program)
endif()
