// What an exception from a model's run means, by its text: handlers/engines/__init__.py.
#pragma once

#include <functional>
#include <string_view>

namespace opserve::native {

// Throws what matches the text of an exception that a runtime threw for the inputs of a run:
// OutOfMemoryError, DeviceError, or RequestError where one of our operators refuses them. Returns if it is
// none of these.
//
// Runtimes distinguish a lack of memory, a lost GPU and a refusal by an operator only by their messages. They
// are parsed here, where the text is certainly the runtime's own, and nowhere else.
//
// `probe` makes a small use of the GPU, and throws if that fails; null where the model runs on the processor.
void throw_classified(std::string_view text, const std::function<void()>& probe);

}  // namespace opserve::native
