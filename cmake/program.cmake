# SPDX-License-Identifier: Apache-2.0
# The command line: build/bin/cumeta.
file(GLOB cumeta_app_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/app/*.cpp)
if(cumeta_app_sources)
  add_executable(cumeta_program ${cumeta_app_sources})
  set_target_properties(cumeta_program PROPERTIES OUTPUT_NAME cumeta)
  target_link_libraries(cumeta_program PRIVATE cumeta fmt::fmt nlohmann_json::nlohmann_json PkgConfig::tomlplusplus)
  cumeta_warnings(cumeta_program)
endif()
