// SPDX-License-Identifier: Apache-2.0
// A plugin of another build, as cuda_plugin_test loads it.
extern "C" __attribute__((visibility("default"))) const char* cumeta_plugin_build_id() { return "0.0.1-old"; }
