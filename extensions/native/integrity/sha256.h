// SHA-256 by OpenSSL's libcrypto.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace opserve::native {

// A hash that grows piece by piece.
class Sha256 {
  public:
    // Throws std::bad_alloc, or std::runtime_error: this libcrypto has no SHA-256.
    Sha256();
    ~Sha256();
    void update(std::span<const std::byte> bytes);
    // Ends the hash: 64 hexadecimal digits.
    std::string finish();

  private:
    struct Free {
        void operator()(void* context) const;
    };
    std::unique_ptr<void, Free> context_;
};

std::string sha256(std::string_view bytes);

}  // namespace opserve::native
