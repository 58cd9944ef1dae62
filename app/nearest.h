// SPDX-License-Identifier: Apache-2.0
// The word that a mistyped one was most likely meant to be: smallest edit distance (swapped neighbours count one).
#pragma once
#include <string>
#include <vector>

namespace cumeta::app {

/// First of the closest candidates; empty when there is no candidate.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);
int edit_distance(const std::string& a, const std::string& b);

}  // namespace cumeta::app
