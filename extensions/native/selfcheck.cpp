#include "selfcheck.h"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>

#include "common/errors.h"
#include "model.h"

namespace opserve::native {
namespace {

std::string answer_sample(const std::filesystem::path& folder) {
    ServableModel model(folder, std::nullopt, {});
    Request request = read_sample_request(folder);
    return model.answer_sample(request);
}

}  // namespace

int print_sample_answer(const std::filesystem::path& folder) {
    try {
        std::string answer = answer_sample(folder);
        answer += '\n';
        return std::fwrite(answer.data(), 1, answer.size(), stdout) == answer.size() ? EXIT_SUCCESS
                                                                                     : EXIT_FAILURE;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", printable(error.what(), kMaxLogged).c_str());
        return EXIT_FAILURE;
    }
}

}  // namespace opserve::native
