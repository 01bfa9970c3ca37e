// The operators of opserve/operators.h as PyTorch calls them: each takes its arguments from the stack, which
// owns them, and leaves its results at the bottom of it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <new>

#include "check_csr.h"
#include "device.h"
#include "gcn_norm.h"
#include "graph_conv.h"
#include "graph_conv_csr.h"
#include "opserve/operators.h"
#include "scaled_add.h"
#include "warp_perspective.h"

namespace opserve::torch_binding {

// A string as a template argument.
template <size_t size>
struct Name {
    char text[size];
    // NOLINTNEXTLINE(google-explicit-constructor)
    constexpr Name(const char (&from)[size]) { std::copy_n(from, size, text); }
};

// An operator as the stable ABI takes it. A failure of PyTorch itself is reported with the operator's name
// and its cause.
template <class Device, Name op, void (*function)(StableIValue* stack)>
void boxed(StableIValue* stack, uint64_t, uint64_t) {
    try {
        function(stack);
    } catch (const RuntimeFailure& failure) {
        throw_if_error(Device::find_cause(op.text, failure));
        throw;
    } catch (const std::bad_alloc&) {
        throw_if_error(Status::out_of_memory("opserve::%s: out of memory: on the host", op.text));
    }
}

// Defines all operators in a PyTorch library.
template <class Library>
void define_operators(Library& library) {
#define OPSERVE_DEFINE(Operator, name, schema, backward_schema) \
    library.def(#name schema);                                  \
    library.def("_" #name "_backward" backward_schema);
    OPSERVE_OPERATORS(OPSERVE_DEFINE)
#undef OPSERVE_DEFINE
    library.def(CheckCsr::kSchema);
}

// Registers their implementations for a device.
template <class Device, class Library>
void implement_operators(Library& library) {
#define OPSERVE_IMPLEMENT(Operator, name, schema, backward_schema)                   \
    library.impl(#name, &boxed<Device, #name, &Operator::template forward<Device>>); \
    library.impl("_" #name "_backward",                                              \
                 &boxed<Device, "_" #name "_backward", &Operator::template backward<Device>>);
    OPSERVE_OPERATORS(OPSERVE_IMPLEMENT)
#undef OPSERVE_IMPLEMENT
    library.impl("check_csr", &boxed<Device, "check_csr", &CheckCsr::forward<Device>>);
}

}  // namespace opserve::torch_binding
