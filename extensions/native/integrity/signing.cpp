#include "signing.h"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <system_error>

#include "../common/errors.h"
#include "files.h"
#include "manifest.h"

namespace opserve::native {
namespace {

// Many times the size of any key.
constexpr size_t kMaxKey = size_t{1} << 20;

template <auto free>
struct Free {
    template <typename T>
    void operator()(T* object) const {
        free(object);
    }
};
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using KeySource = std::unique_ptr<BIO, Free<BIO_free>>;
using Verification = std::unique_ptr<EVP_MD_CTX, Free<EVP_MD_CTX_free>>;

ModelError unusable(const std::string& reason) {
    return ModelError(std::string(kPublicKeyVariable) + ": " + reason);
}

std::string read_key(const std::string& path) {
    const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    std::string text(kMaxKey, '\0');
    size_t length = 0;
    try {
        if (!file) throw std::system_error(errno, std::generic_category());
        while (length < text.size()) {
            const size_t got = read_some(file.get(), text.data() + length, text.size() - length);
            if (got == 0) break;
            length += got;
        }
    } catch (const std::system_error& error) {
        throw unusable(path + " cannot be read: " + std::strerror(error.code().value()));
    }
    text.resize(length);
    return text;
}

Key load_public_key(const std::string& path) {
    // A worker's current folder is the archive's own: a relative path would find the key there.
    if (!path.starts_with('/'))
        throw unusable("expected the absolute path of a public key, got '" + printable(path, kMaxMessage) +
                       "'");
    const std::string text = read_key(path);
    const KeySource source(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
    if (!source) throw std::bad_alloc();
    // Of a key that is protected by a password libcrypto would ask for that at the terminal.
    const auto no_password = [](char*, int, int, void*) { return -1; };
    Key key(PEM_read_bio_PUBKEY(source.get(), nullptr, no_password, nullptr));
    ERR_clear_error();
    if (!key) throw unusable(path + " holds no public key in PEM form");
    if (EVP_PKEY_id(key.get()) != EVP_PKEY_ED25519) throw unusable(path + " is not an ed25519 key");
    return key;
}

bool verifies(EVP_PKEY* key, std::string_view content, std::string_view signature) {
    const auto bytes = [](std::string_view text) {
        return reinterpret_cast<const unsigned char*>(text.data());
    };
    const Verification context(EVP_MD_CTX_new());
    if (!context) throw std::bad_alloc();
    const bool fits = EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key) == 1 &&
                      EVP_DigestVerify(context.get(), bytes(signature), signature.size(), bytes(content),
                                       content.size()) == 1;
    ERR_clear_error();
    return fits;
}

}  // namespace

std::optional<std::string> public_key_path() {
    const char* path = std::getenv(kPublicKeyVariable);
    if (path == nullptr) return std::nullopt;
    return path;
}

void check_signature(std::string_view content, const std::optional<std::string>& signature,
                     const std::optional<std::string>& key) {
    if (!key) return;
    const Key loaded = load_public_key(*key);
    if (!signature)
        throw ModelError(std::string(kSignatureFile) + ": missing: the archive is not signed, and " + *key +
                         " demands that it is");
    if (!verifies(loaded.get(), content, *signature))
        throw ModelError(std::string(kSignatureFile) + ": does not fit: " + kManifestFile +
                         " was changed, or not signed with the private half of " + *key);
}

}  // namespace opserve::native
