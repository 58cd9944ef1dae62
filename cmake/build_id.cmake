# SPDX-License-Identifier: Apache-2.0
# Writes OUTPUT: the id of everything that crosses the border of the plugin, a hash of SOURCE's headers and of COMPILER.
file(GLOB HEADERS ${SOURCE}/include/cumeta/*.h ${SOURCE}/kernels/*.h ${SOURCE}/kernels/layers/*.h
  ${SOURCE}/kernels/programs/*.h)
set(text "${COMPILER}")
foreach(header ${HEADERS})
  file(SHA256 ${header} hash)
  string(APPEND text "${hash}")
endforeach()
string(SHA256 id "${text}")
string(SUBSTRING ${id} 0 16 id)
set(content "// SPDX-License-Identifier: Apache-2.0\n// The id of this build's plugin border.\n#pragma once\n#define CUMETA_PLUGIN_BUILD_ID \"${VERSION}-${id}\"\n")
set(before "")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} before)
endif()
if(NOT before STREQUAL content)
  file(WRITE ${OUTPUT} "${content}")
endif()
