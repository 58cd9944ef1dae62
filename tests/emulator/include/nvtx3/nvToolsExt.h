// SPDX-License-Identifier: Apache-2.0
// Stands in for NVTX, whose ranges nobody reads here.
#pragma once

inline int nvtxRangePushA(const char*) { return 0; }
inline int nvtxRangePop() { return 0; }
inline void nvtxMarkA(const char*) {}
