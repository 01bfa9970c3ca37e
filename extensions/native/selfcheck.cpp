#include "selfcheck.h"

#include <cstdio>
#include <exception>
#include <string>

#include "model.h"

namespace opserve::native {

int selfcheck(const std::filesystem::path& folder, bool print) {
    try {
        ServableModel model(folder, std::nullopt, {});
        Request request = read_sample_request(folder);
        const std::string body = model.answer_sample(request) + "\n";
        if (print &&
            (std::fwrite(body.data(), 1, body.size(), stdout) != body.size() || std::fflush(stdout) != 0)) {
            throw ModelError("the answer cannot be written");
        }
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", last_line(error.what()).c_str());
        return 1;
    }
}

}  // namespace opserve::native
