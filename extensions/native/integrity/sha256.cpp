#include "sha256.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <array>
#include <new>
#include <stdexcept>

namespace opserve::native {
namespace {

EVP_MD_CTX* as_context(void* context) { return static_cast<EVP_MD_CTX*>(context); }

// Without the configuration file that a variable of the environment may name: what is true of an archive must
// not depend on it.
void require_libcrypto() {
    static const bool ready = OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr) == 1;
    if (!ready) throw std::runtime_error("libcrypto cannot be initialized");
}

}  // namespace

void Sha256::Free::operator()(void* context) const { EVP_MD_CTX_free(as_context(context)); }

Sha256::Sha256() {
    require_libcrypto();
    context_.reset(EVP_MD_CTX_new());
    if (!context_) throw std::bad_alloc();
    if (EVP_DigestInit_ex(as_context(context_.get()), EVP_sha256(), nullptr) != 1)
        throw std::runtime_error("libcrypto has no SHA-256");
}

Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> bytes) {
    if (EVP_DigestUpdate(as_context(context_.get()), bytes.data(), bytes.size()) != 1)
        throw std::runtime_error("libcrypto failed to hash");
}

std::string Sha256::finish() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int length = 0;
    if (EVP_DigestFinal_ex(as_context(context_.get()), digest.data(), &length) != 1)
        throw std::runtime_error("libcrypto failed to hash");
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    text.reserve(size_t{2} * length);
    for (unsigned int i = 0; i < length; ++i) {
        text += kDigits[digest[i] >> 4];
        text += kDigits[digest[i] & 15];
    }
    return text;
}

std::string sha256(std::string_view bytes) {
    Sha256 hash;
    hash.update(std::as_bytes(std::span(bytes)));
    return hash.finish();
}

}  // namespace opserve::native
