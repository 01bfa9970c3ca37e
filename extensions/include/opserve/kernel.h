// How code that is written once for all devices calls the kernels of one.
#pragma once

#include "opserve/tensor.h"

// Calls cpu::<name> or cuda::<name>, whichever is for `Device`; the other one is not linked.
#define OPSERVE_KERNEL(Device, name)                                         \
    [](const auto&... arguments) {                                           \
        if constexpr (Device::kDeviceType == ::opserve::DeviceType::kCuda) { \
            return ::opserve::cuda::name(arguments...);                      \
        } else {                                                             \
            return ::opserve::cpu::name(arguments...);                       \
        }                                                                    \
    }
