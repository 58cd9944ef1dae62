// SPDX-License-Identifier: Apache-2.0
// All of cumeta: exact meta-gradients, fast.
#pragma once
#include "cumeta/algorithms.h"
#include "cumeta/data.h"
#include "cumeta/device.h"
#include "cumeta/error.h"
#include "cumeta/layers.h"
#include "cumeta/learner.h"
#include "cumeta/model.h"
#include "cumeta/optimizer.h"
#include "cumeta/plan.h"
#include "cumeta/selftest.h"
#include "cumeta/task.h"
#include "cumeta/tensor_file.h"
#include "cumeta/version.h"
