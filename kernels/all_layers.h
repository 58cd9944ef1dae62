// SPDX-License-Identifier: Apache-2.0
// The list of all rows. A new layer is one line here, one in cumeta/layers.h and one in kernels/stage.h.
#pragma once
#include "kernels/layers/batch_norm.h"
#include "kernels/layers/conv2d.h"
#include "kernels/layers/conv_block.h"
#include "kernels/layers/global_average_pool.h"
#include "kernels/layers/leaky_relu.h"
#include "kernels/layers/linear.h"
#include "kernels/layers/max_pool2d.h"
#include "kernels/layers/mean_squared_error.h"
#include "kernels/layers/pooled_linear.h"
#include "kernels/layers/relu.h"
#include "kernels/layers/softmax_cross_entropy.h"
#include "kernels/layers/tanh.h"
#include "kernels/layers/vendor_conv2d.h"
#include "kernels/layers/vendor_linear.h"
