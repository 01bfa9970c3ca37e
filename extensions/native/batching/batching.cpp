#include "batching.h"

#include <algorithm>
#include <string>

#include "../common/errors.h"
#include "arrays.h"
#include "graph.h"

namespace opserve::native {
namespace {

// `batching: none`: one call per request.
class NoBatching final : public Batcher {
  public:
    void check(Arrays&) const override {}
    bool joins(const Arrays&, const Arrays&) const override { return false; }
    Arrays join(std::span<const Arrays* const> requests) const override { return *requests[0]; }
    std::vector<Arrays> split(const Arrays& outputs, std::span<const Arrays* const>) const override {
        return {outputs};
    }
};

// `batching: stack`: inputs of equal shapes get a new first dimension.
class StackBatching final : public Batcher {
  public:
    void check(Arrays&) const override {}

    bool joins(const Arrays& left, const Arrays& right) const override {
        return std::equal(
            left.begin(), left.end(), right.begin(), right.end(),
            [](const NamedArray& a, const NamedArray& b) { return a.array.shape == b.array.shape; });
    }

    Arrays join(std::span<const Arrays* const> requests) const override {
        Arrays joined;
        joined.reserve(requests[0]->size());
        std::vector<const Array*> parts;
        for (const auto& [name, array] : *requests[0]) {
            if (requests.size() == 1) {
                joined.push_back({name, array});
                Shape& shape = joined.back().array.shape;
                shape.insert(shape.begin(), 1);
                continue;
            }
            parts.clear();
            for (const Arrays* request : requests) parts.push_back(&get(*request, name));
            joined.push_back({name, stack(parts)});
        }
        return joined;
    }

    std::vector<Arrays> split(const Arrays& outputs, std::span<const Arrays* const> requests) const override {
        const auto count = static_cast<int64_t>(requests.size());
        for (const auto& [name, array] : outputs) {
            if (array.shape.empty() || array.shape[0] != count) {
                throw ModelError(
                    "output '" + std::string(name) + "' has shape " + describe(array.shape) + " for " +
                    std::to_string(count) +
                    " stacked request(s): with batching: stack the model's first dimension is the request");
            }
        }
        std::vector<Arrays> results(requests.size());
        for (int64_t index = 0; index < count; ++index) {
            Arrays& result = results[static_cast<size_t>(index)];
            result.reserve(outputs.size());
            for (const auto& [name, array] : outputs) result.push_back({name, take_row(array, index)});
        }
        return results;
    }
};

bool same_names_and_dtypes(const Arrays& left, const Arrays& right) {
    return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                      [](const NamedArray& a, const NamedArray& b) {
                          return a.name == b.name && a.array.dtype == b.array.dtype;
                      });
}

}  // namespace

std::unique_ptr<Batcher> make_batcher(const ModelConfig& config) {
    if (config.batching == Batching::kGraph) return make_graph_batcher(config.inputs);
    if (config.batching == Batching::kStack) return std::make_unique<StackBatching>();
    return std::make_unique<NoBatching>();
}

std::vector<std::vector<size_t>> group(std::span<const Arrays* const> requests, const Batcher& batcher,
                                       bool hooked) {
    std::vector<std::vector<size_t>> groups;
    for (size_t position = 0; position < requests.size(); ++position) {
        const Arrays* request = requests[position];
        if (request == nullptr) continue;
        const auto found =
            std::find_if(groups.begin(), groups.end(), [&](const std::vector<size_t>& members) {
                const Arrays& first = *requests[members[0]];
                return (!hooked || same_names_and_dtypes(first, *request)) && batcher.joins(first, *request);
            });
        if (found == groups.end()) {
            groups.push_back({position});
        } else {
            found->push_back(position);
        }
    }
    return groups;
}

void check_outputs(const Arrays& outputs, const Signature& specs) {
    for (const TensorSpec& spec : specs) {
        const Array& array = get(outputs, spec.name);
        if (array.dtype == spec.dtype && spec.matches(array.shape)) continue;
        throw ModelError("output '" + spec.name + "' is " + std::string(name(array.dtype)) + " " +
                         describe(array.shape) + "; its signature promises " + spec.describe());
    }
}

}  // namespace opserve::native
