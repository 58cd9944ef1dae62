# SPDX-License-Identifier: Apache-2.0
# cmake --install: library, headers, program, plugins, recipes, find_package(cumeta) and pkg-config cumeta.
include(CMakePackageConfigHelpers)

# Only cumeta's own names leave the library: instantiated templates of other libraries stay inside.
set(cumeta_exports ${PROJECT_SOURCE_DIR}/cmake/exports.map)
target_link_options(cumeta PRIVATE -Wl,--version-script=${cumeta_exports} -Wl,--no-undefined)
set_target_properties(cumeta PROPERTIES LINK_DEPENDS ${cumeta_exports})
if(CUMETA_SANITIZE)
  target_link_options(cumeta PRIVATE -Wl,-z,undefs)  # the sanitizer's runtime comes with the program
endif()

install(TARGETS cumeta EXPORT cumetaTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/cumeta ${PROJECT_BINARY_DIR}/generated/include/cumeta
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")

if(TARGET cumeta_program)
  file(RELATIVE_PATH cumeta_bin_to_lib ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
  set_target_properties(cumeta_program PROPERTIES INSTALL_RPATH "$ORIGIN/${cumeta_bin_to_lib}")
  install(TARGETS cumeta_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
# Plugins lie beside the library, where it looks for them; the emulated one is a test's and stays in the build folder.
foreach(plugin cumeta_cuda cumeta_cuda_vendor)
  if(TARGET ${plugin})
    install(TARGETS ${plugin} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  endif()
endforeach()
if(EXISTS ${PROJECT_SOURCE_DIR}/recipes)
  install(DIRECTORY recipes DESTINATION ${CMAKE_INSTALL_DATADIR}/cumeta FILES_MATCHING PATTERN "*.toml")
endif()

set(cumeta_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/cumeta)
install(EXPORT cumetaTargets NAMESPACE cumeta:: DESTINATION ${cumeta_package_dir})
configure_package_config_file(cmake/cumetaConfig.cmake.in ${PROJECT_BINARY_DIR}/generated/cumetaConfig.cmake
  INSTALL_DESTINATION ${cumeta_package_dir} NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may break: 0.1.z serves find_package(cumeta 0.1), 0.2 does not.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/generated/cumetaConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/generated/cumetaConfig.cmake ${PROJECT_BINARY_DIR}/generated/cumetaConfigVersion.cmake
  DESTINATION ${cumeta_package_dir})

# The .pc file names its prefix relative to itself, so the installed tree may be moved.
set(cumeta_pc_dir ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH cumeta_pc_to_prefix ${cumeta_pc_dir} ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" cumeta_pc_to_prefix "${cumeta_pc_to_prefix}")
configure_file(cmake/cumeta.pc.in generated/cumeta.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/generated/cumeta.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

include(cmake/consumer.cmake)
