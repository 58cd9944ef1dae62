// SPDX-License-Identifier: Apache-2.0
// CUMETA_API marks what the shared library shows; everything else is hidden.
#pragma once
#if defined(__GNUC__)
#define CUMETA_API __attribute__((visibility("default")))
#else
#define CUMETA_API
#endif
