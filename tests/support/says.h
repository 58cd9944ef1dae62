// SPDX-License-Identifier: Apache-2.0
// EXPECT_SAYS(call, words): the call throws one of cumeta's errors, in one line that holds the words.
#pragma once
#include <gtest/gtest.h>

#include <string>

#include "cumeta/error.h"

namespace cumeta::testing {

template <class F>
std::string message_of(F f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

}  // namespace cumeta::testing

#define EXPECT_SAYS(expression, words)                                                   \
  do {                                                                                   \
    const std::string said = ::cumeta::testing::message_of([&] { (void)(expression); }); \
    EXPECT_NE(said.find(words), std::string::npos) << "it said: " << said;               \
  } while (false)
