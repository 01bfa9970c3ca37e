#include "selfcheck.h"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "common/errors.h"
#include "model.h"

namespace opserve::native {
namespace {

constexpr int kOk = 200;

std::string answer_sample(const std::filesystem::path& folder) {
    ServableModel model(folder, std::nullopt, {});
    Request request = read_sample_request(folder);
    std::vector<Response> responses = model.answer({&request, 1});
    Response& response = responses.at(0);
    if (response.status != kOk) throw ModelError("the sample request is refused: " + response.body);
    return std::move(response.body);
}

}  // namespace

int print_sample_answer(const std::filesystem::path& folder) {
    try {
        std::string answer = answer_sample(folder);
        answer += '\n';
        return std::fwrite(answer.data(), 1, answer.size(), stdout) == answer.size() ? EXIT_SUCCESS : EXIT_FAILURE;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", printable(error.what(), kMaxLogged).c_str());
        return EXIT_FAILURE;
    }
}

}  // namespace opserve::native
