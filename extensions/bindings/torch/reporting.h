// How an operator reports what PyTorch itself could not do: with the operator's name, and as what it is.
#pragma once

#include <algorithm>
#include <cstddef>
#include <new>

#include "tensor.h"

namespace opserve::torch_binding {

// Why PyTorch could not do something, as far as the device can tell; success where that is not known. Each
// library has its own.
Status cause_of(const char* op, const RuntimeFailure& failure);

// Text as a template argument.
template <size_t size>
struct Name {
    char text[size];
    // NOLINTNEXTLINE(google-explicit-constructor)
    constexpr Name(const char (&from)[size]) { std::copy_n(from, size, text); }
};

using Boxed = void (*)(StableIValue* stack, uint64_t inputs, uint64_t outputs);

// The function under an operator's name.
template <Name op, Boxed function>
void reporting(StableIValue* stack, uint64_t inputs, uint64_t outputs) {
    try {
        function(stack, inputs, outputs);
    } catch (const RuntimeFailure& failure) {
        throw_if_error(cause_of(op.text, failure));
        throw;
    } catch (const std::bad_alloc&) {
        throw_if_error(Status::out_of_memory("opserve::%s: out of memory: of the host", op.text));
    }
}

struct Implementation {
    const char* name;
    Boxed function;
};

template <Name op, Boxed function>
inline constexpr Implementation kImplementation{op.text, &reporting<op, function>};

}  // namespace opserve::torch_binding
