// The signature of an archive, opserve.sig: ed25519, made of the manifest, which holds the hash of everything
// else.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace opserve::native {

inline constexpr const char* kSignatureFile = "opserve.sig";
inline constexpr const char* kPublicKeyVariable = "OPSERVE_PUBLIC_KEY";

// The public key that the environment requires archives to be signed for, if it does.
std::optional<std::string> public_key_path();

// Checks the signature of a manifest if there is a key, the absolute path of a PEM; without one, signed and
// unsigned are the same. Throws ModelError: no signature that its private half made of these bytes, or the
// key is unusable.
void check_signature(std::string_view content, const std::optional<std::string>& signature,
                     const std::optional<std::string>& key);

}  // namespace opserve::native
