#include "output_spec.h"

#include <simdjson.h>

#include <algorithm>
#include <stdexcept>

namespace opserve::native {
namespace {

namespace dom = simdjson::dom;

[[noreturn]] void refuse() { throw std::runtime_error("its call specification cannot be read"); }

template <typename T>
T read(simdjson::simdjson_result<T> result) {
    T value;
    if (std::move(result).get(value)) refuse();
    return value;
}

// "Tensor" for a leaf, "tuple" for "builtins.tuple".
std::string type_name(dom::object node) {
    const dom::element type = read(node.at_key("type"));
    if (type.is_null()) return "Tensor";
    const std::string_view text = read(type.get_string());
    return std::string(text.substr(text.rfind('.') + 1));
}

std::string join(const std::vector<std::string>& texts) {
    std::string all;
    for (const std::string& text : texts) all += (all.empty() ? "" : ", ") + text;
    return all;
}

std::vector<std::string> read_keys(dom::object node) {
    dom::parser parser;
    const std::string context(read(read(node.at_key("context")).get_string()));
    std::vector<std::string> keys;
    for (const dom::element key : read(read(parser.parse(context)).get_array())) {
        keys.emplace_back(key.is_string() ? std::string(key.get_string().value_unsafe())
                                          : simdjson::minify(key));
    }
    return keys;
}

}  // namespace

OutputSpec parse_output_spec(std::string_view json, const Signature& outputs) {
    dom::parser parser;
    const dom::array document = read(read(parser.parse(json.data(), json.size())).get_array());
    const dom::object root = read(read(document.at(1)).get_object());
    const std::string type = type_name(root);
    std::vector<std::string> children;
    for (const dom::element child : read(read(root.at_key("children_spec")).get_array())) {
        children.push_back(type_name(read(child.get_object())));
    }
    OutputSpec spec;
    std::vector<size_t> places(outputs.size());
    bool matches = std::all_of(children.begin(), children.end(),
                               [](const std::string& each) { return each == "Tensor"; });
    if (type == "Tensor") {
        spec.returned = type;
        matches = outputs.size() == 1;
    } else if (type == "dict" || type == "OrderedDict") {
        const std::vector<std::string> keys = read_keys(root);
        spec.returned = "a dictionary of " + join(keys);
        matches = matches && keys.size() == outputs.size() && children.size() == keys.size();
        for (size_t i = 0; matches && i < outputs.size(); ++i) {
            const auto found = std::find(keys.begin(), keys.end(), outputs[i].name);
            matches = found != keys.end();
            places[i] = static_cast<size_t>(found - keys.begin());
        }
    } else if (type == "tuple" || type == "list" || type == "namedtuple") {
        spec.returned = std::to_string(children.size()) + " value(s): " + join(children);
        matches = matches && children.size() == outputs.size();
        for (size_t i = 0; i < outputs.size(); ++i) places[i] = i;
    } else {
        spec.returned = type;
        matches = false;
    }
    if (matches) spec.places = std::move(places);
    return spec;
}

}  // namespace opserve::native
