#include "graph.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "../common/errors.h"
#include "arrays.h"

namespace opserve::native {
namespace {

// Calls visit(T{}) with the type of the elements of row pointers or columns.
template <typename Visit>
decltype(auto) visit_index(DType dtype, Visit&& visit) {
    switch (dtype) {
        case DType::kInt8:
            return visit(int8_t{});
        case DType::kInt16:
            return visit(int16_t{});
        case DType::kInt32:
            return visit(int32_t{});
        case DType::kInt64:
            return visit(int64_t{});
        default:
            throw std::runtime_error("row pointers and columns must be integers");
    }
}

// A vector of indices. A hook may have made something else of it.
const Array& get_indices(const Arrays& inputs, std::string_view name) {
    const Array& array = get(inputs, name);
    if (array.shape.size() != 1) throw std::runtime_error("'" + std::string(name) + "' must be a vector");
    return array;
}

// Returns where the row pointers are wrong, or null.
template <typename T>
const char* find_fault(const T* rowptr, int64_t count) {
    if (count == 0 || rowptr[0] != 0) return "'rowptr' must start with 0";
    // Without a branch for each, so that it is vectorized.
    bool decreases = false;
    for (int64_t i = 1; i < count; ++i) decreases |= rowptr[i] < rowptr[i - 1];
    return decreases ? "'rowptr' must not decrease" : nullptr;
}

// Whether a column is not one of the nodes. Read as unsigned, a negative number is larger than any node.
template <typename T>
bool exceeds(const T* col, int64_t count, int64_t nodes) {
    using Unsigned = std::make_unsigned_t<T>;
    Unsigned largest = 0;
    for (int64_t i = 0; i < count; ++i) largest = std::max(largest, static_cast<Unsigned>(col[i]));
    return count > 0 && static_cast<uint64_t>(largest) >= static_cast<uint64_t>(nodes);
}

template <typename T>
void fill_ones(std::byte* data, int64_t count) {
    std::fill_n(reinterpret_cast<T*>(data), count, T{1});
}

Array make_ones(DType dtype, int64_t count) {
    Array ones = Array::empty(dtype, {count});
    switch (dtype) {
        case DType::kFloat32:
            fill_ones<float>(ones.data, count);
            break;
        case DType::kFloat64:
            fill_ones<double>(ones.data, count);
            break;
        default:
            switch (item_size(dtype)) {
                case 1:
                    fill_ones<int8_t>(ones.data, count);
                    break;
                case 2:
                    fill_ones<int16_t>(ones.data, count);
                    break;
                case 4:
                    fill_ones<int32_t>(ones.data, count);
                    break;
                default:
                    fill_ones<int64_t>(ones.data, count);
            }
    }
    return ones;
}

class GraphBatching final : public Batcher {
  public:
    explicit GraphBatching(const Signature& specs) {
        for (const TensorSpec& spec : specs) {
            if (spec.name == kValue) {
                value_ = &spec;
            } else if (spec.name != kRowptr && spec.name != kCol) {
                nodes_.push_back(spec.name);
            }
        }
    }

    void check(Arrays& inputs) const override {
        const Array& rowptr = get_indices(inputs, kRowptr);
        const Array& col = get_indices(inputs, kCol);
        const int64_t nodes = rowptr.shape[0] - 1, edges = col.shape[0];
        visit_index(rowptr.dtype, [&](auto type) {
            const auto* data = rowptr.as<decltype(type)>();
            if (const char* fault = find_fault(data, nodes + 1)) throw RequestError(fault, kRowptr);
            if (data[nodes] != edges) {
                throw RequestError("'rowptr' must end with the number of columns, " + std::to_string(edges) +
                                       ", got " + std::to_string(data[nodes]),
                                   kRowptr);
            }
        });
        visit_index(col.dtype, [&](auto type) {
            if (exceeds(col.as<decltype(type)>(), edges, nodes)) {
                throw RequestError("'col' must hold nodes from 0 to " + std::to_string(nodes - 1), kCol);
            }
        });
        if (value_ != nullptr && find(inputs, kValue) == nullptr) {
            inputs.push_back({value_->name, make_ones(value_->dtype, edges)});
        }
        check_rows(inputs, kValue, "edge", edges);
        for (const std::string_view name : nodes_) check_rows(inputs, name, "node", nodes);
    }

    bool joins(const Arrays& left, const Arrays& right) const override {
        return std::all_of(nodes_.begin(), nodes_.end(), [&](std::string_view name) {
            const Shape &a = get(left, name).shape, &b = get(right, name).shape;
            // The dimensions beyond the nodes; of a scalar, which only a hook makes, there are none.
            return std::equal(a.begin() + !a.empty(), a.end(), b.begin() + !b.empty(), b.end());
        });
    }

    Arrays join(std::span<const Arrays* const> requests) const override {
        if (requests.size() == 1) return *requests[0];
        Arrays joined;
        joined.reserve(requests[0]->size());
        // First, so that a graph that is too large is refused before anything is made of it.
        Array rowptr = join_rowptr(requests), col = join_col(requests);
        std::vector<const Array*> parts;
        for (const auto& [name, array] : *requests[0]) {
            if (name == kRowptr) {
                joined.push_back({name, std::move(rowptr)});
            } else if (name == kCol) {
                joined.push_back({name, std::move(col)});
            } else {
                parts.clear();
                for (const Arrays* request : requests) parts.push_back(&get(*request, name));
                joined.push_back({name, concatenate(parts)});
            }
        }
        return joined;
    }

    std::vector<Arrays> split(const Arrays& outputs, std::span<const Arrays* const> requests) const override {
        std::vector<int64_t> ends;
        ends.reserve(requests.size());
        int64_t nodes = 0;
        for (const Arrays* request : requests) {
            nodes += count_rows(get(*request, kRowptr)) - 1;
            ends.push_back(nodes);
        }
        for (const auto& [name, array] : outputs) {
            if (array.shape.empty() || array.shape[0] != nodes) {
                throw ModelError("output '" + std::string(name) + "' has shape " + describe(array.shape) +
                                 " for " + std::to_string(nodes) +
                                 " node(s): with batching: graph the model's first dimension is the node");
            }
        }
        if (requests.size() == 1) return {outputs};
        std::vector<Arrays> results(requests.size());
        for (size_t index = 0; index < results.size(); ++index) {
            results[index].reserve(outputs.size());
            const int64_t begin = index == 0 ? 0 : ends[index - 1];
            // A graph without a row pointer, which only a hook makes, would begin before the one before it.
            if (begin > ends[index] || begin < 0) throw std::runtime_error("'rowptr' is empty");
            for (const auto& [name, array] : outputs) {
                results[index].push_back({name, take_rows(array, begin, ends[index])});
            }
        }
        return results;
    }

  private:
    static void check_rows(const Arrays& inputs, std::string_view name, std::string_view unit, int64_t want) {
        const Array* array = find(inputs, name);
        if (array == nullptr) return;
        const int64_t got = count_rows(*array);
        if (got == want) return;
        throw RequestError("'" + std::string(name) + "' must have a row for every " + std::string(unit) +
                               ", " + std::to_string(want) + ", got " + std::to_string(got),
                           name);
    }

    template <typename T>
    static void check_fits(std::string_view name, int64_t last) {
        if (last > std::numeric_limits<T>::max()) {
            throw ModelError("'" + std::string(name) + "' of the joined graph does not fit its dtype");
        }
    }

    static void check_same(const Array& array, const Array& first) {
        if (array.dtype != first.dtype)
            throw std::runtime_error("graphs with indices of different dtypes cannot be joined");
    }

    // Shifts row pointers by the number of preceding edges.
    static Array join_rowptr(std::span<const Arrays* const> requests) {
        const Array& first = get_indices(*requests[0], kRowptr);
        int64_t rows = 0, edges = 0;
        for (const Arrays* request : requests) {
            const Array& rowptr = get_indices(*request, kRowptr);
            check_same(rowptr, first);
            rows += std::max<int64_t>(rowptr.shape[0] - 1, 0);
            edges += get_indices(*request, kCol).shape[0];
        }
        return visit_index(first.dtype, [&](auto type) {
            using T = decltype(type);
            check_fits<T>(kRowptr, edges);
            Array joined = Array::empty(first.dtype, {rows + 1});
            T* out = joined.as<T>();
            *out++ = 0;
            int64_t before = 0;
            for (const Arrays* request : requests) {
                const Array& rowptr = get(*request, kRowptr);
                const T* data = rowptr.as<T>();
                // Unsigned, as a hook may have made them so large that the sum wraps.
                for (int64_t i = 1; i < rowptr.shape[0]; ++i) {
                    *out++ = static_cast<T>(static_cast<uint64_t>(data[i]) + static_cast<uint64_t>(before));
                }
                before += get(*request, kCol).shape[0];
            }
            return joined;
        });
    }

    // Shifts columns by the number of preceding nodes.
    static Array join_col(std::span<const Arrays* const> requests) {
        const Array& first = get_indices(*requests[0], kCol);
        int64_t nodes = 0, edges = 0;
        for (const Arrays* request : requests) {
            const Array& col = get_indices(*request, kCol);
            check_same(col, first);
            nodes += get(*request, kRowptr).shape[0] - 1;
            edges += col.shape[0];
        }
        return visit_index(first.dtype, [&](auto type) {
            using T = decltype(type);
            check_fits<T>(kCol, nodes);
            Array joined = Array::empty(first.dtype, {edges});
            T* out = joined.as<T>();
            int64_t before = 0;
            for (const Arrays* request : requests) {
                const Array& col = get(*request, kCol);
                const T* data = col.as<T>();
                for (int64_t i = 0; i < col.shape[0]; ++i) {
                    *out++ = static_cast<T>(static_cast<uint64_t>(data[i]) + static_cast<uint64_t>(before));
                }
                before += get(*request, kRowptr).shape[0] - 1;
            }
            return joined;
        });
    }

    const TensorSpec* value_ = nullptr;
    std::vector<std::string_view> nodes_;
};

}  // namespace

std::unique_ptr<Batcher> make_graph_batcher(const Signature& specs) {
    return std::make_unique<GraphBatching>(specs);
}

}  // namespace opserve::native
