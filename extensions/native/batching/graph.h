// `batching: graph`: graphs in CSR form become one graph whose adjacency matrix is block-diagonal.
//
// Inputs: `rowptr` [n + 1] and `col` [nnz], `value` [nnz] if the model has it (ones if a request leaves it
// out), all others [n, …], one row per node. Outputs are [n, …].
#pragma once

#include <memory>

#include "batching.h"

namespace opserve::native {

std::unique_ptr<Batcher> make_graph_batcher(const Signature& specs);

}  // namespace opserve::native
