// The operators of opserve/operators.h as ONNX knows them: names, inputs, attributes, the shape of the
// result, and how a run of a node becomes parameters of a kernel. They are written once over a `Device`: the
// provider's name, where intermediate results are, and how a call runs; see cpu.h.
#pragma once

#include "gcn_norm.h"
#include "graph_conv.h"
#include "graph_conv_csr.h"
#include "opserve/operators.h"
#include "scaled_add.h"
#include "warp_perspective.h"
