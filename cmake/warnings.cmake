# SPDX-License-Identifier: Apache-2.0
# cumeta_warnings(target): the warnings that every target of ours is built with; errors when CUMETA_WERROR is on.
function(cumeta_warnings target)
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wno-unknown-pragmas $<$<BOOL:${CUMETA_WERROR}>:-Werror>>)
endfunction()
