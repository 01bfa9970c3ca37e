// Comparisons of our declarations of ONNX Runtime's C API, in the namespace `ours`, with the runtime's own.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

// The part of a type that a call depends on: that it is a pointer, or an integer with a number of bits.
template <class T>
struct Passed {
    using Type = T;
};
template <class T>
    requires std::is_enum_v<T>
struct Passed<T> {
    using Type = std::conditional_t<sizeof(T) == 4, int32_t, void>;
};
template <class T>
struct Passed<T*> {
    using Type = void*;
};
template <class Result, class... Arguments>
struct Passed<Result (*)(Arguments...)> {
    using Type = typename Passed<Result>::Type (*)(typename Passed<Arguments>::Type...);
};
template <class Result, class... Arguments>
struct Passed<Result (*)(Arguments...) noexcept> : Passed<Result (*)(Arguments...)> {};

template <class A, class B>
constexpr bool same_call = std::is_same_v<typename Passed<A>::Type, typename Passed<B>::Type>;

#define SAME_MEMBER(type, member)                                          \
    static_assert(offsetof(ours::type, member) == offsetof(type, member)); \
    static_assert(same_call<decltype(ours::type::member), decltype(type::member)>, #type "." #member);
#define SAME_FUNCTION(place, function) SAME_MEMBER(OrtApi, function)
#define SAME_VALUE(name) static_assert(static_cast<int>(ours::name) == static_cast<int>(name), #name);
