// SPDX-License-Identifier: Apache-2.0
// What the emulator's own tests ask of the sanitizer that they are built with: races counted, not fatal.
#pragma once

#ifdef __SANITIZE_THREAD__
#define CUMETA_TEST_TSAN 1
#else
#define CUMETA_TEST_TSAN 0
#endif
#ifdef __SANITIZE_ADDRESS__
#define CUMETA_TEST_ASAN 1
#else
#define CUMETA_TEST_ASAN 0
#endif

namespace emulator_test {
inline int races = 0;
}

#if CUMETA_TEST_TSAN
#define CUMETA_TEST_EXPORT __attribute__((visibility("default"), no_sanitize("thread")))
extern "C" CUMETA_TEST_EXPORT inline __attribute__((used)) void __tsan_on_report(void*) { ++emulator_test::races; }
extern "C" CUMETA_TEST_EXPORT inline __attribute__((used)) const char* __tsan_default_options() {
  return "suppress_equal_addresses=0 symbolize=0 exitcode=0";
}
#undef CUMETA_TEST_EXPORT
#endif
