// SPDX-License-Identifier: Apache-2.0
// A library that is no plugin at all, as cuda_plugin_test loads it.
extern "C" __attribute__((visibility("default"))) int something_else() { return 0; }
