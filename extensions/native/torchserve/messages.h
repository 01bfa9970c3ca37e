// What TorchServe's frontend sends to a worker: the request to load a model, and batches of requests. See
// ts/protocol/otf_message_handler.py of TorchServe 0.12. Numbers have 32 bits in network order, a length
// precedes every text, and -1 ends each list.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "../codecs/request.h"
#include "buffers.h"
#include "connection.h"

namespace opserve::native {

// The first byte of each message.
inline constexpr uint8_t kLoad = 'L', kPredict = 'I';

struct LoadMessage {
    std::string model_name, model_path, handler, envelope;
    int32_t batch_size = 1;
    std::optional<int> gpu;

    // Reads what follows the first byte. Throws as Connection does.
    static LoadMessage read(Connection& connection);
};

// A batch of requests. Its memory is used again for the next one.
class Batch {
  public:
    // Reads what follows the first byte. A request that there is no memory for is marked as refused (507).
    // Throws as Connection does.
    void read(Connection& connection);

    // The requests, as the handler of the Python worker makes them.
    std::span<Request> requests() { return {requests_.data(), size_}; }
    size_t size() const { return size_; }
    const std::string& id(size_t index) const { return marks_[index].id; }

    // Whether a request is TorchServe's own for a description: it has that mark and no parts; unlike an empty
    // form with the same mark, which a sender can make.
    bool is_description(size_t index) const {
        return marks_[index].describe && !marks_[index].form && !has_parts(index);
    }
    // The same, whatever its media type.
    bool is_marked_description(size_t index) const { return marks_[index].describe && !has_parts(index); }
    // Whether it came by gRPC: it has no headers.
    bool by_grpc(size_t index) const { return requests_[index].headers.empty(); }

    // Lets go of the bodies.
    void release();

  private:
    // What only this server knows about a request.
    struct Marks {
        std::string id;
        bool describe = false, form = false;
    };

    bool has_parts(size_t index) const { return !requests_[index].parts.empty(); }
    void read_headers(Connection& connection, Request& request);
    void read_parts(Connection& connection, Request& request);
    static void mark(Request& request, Marks& marks);

    // More than `size_` if an earlier batch was larger.
    std::vector<Request> requests_;
    std::vector<Marks> marks_;
    size_t size_ = 0;
    BufferPool buffers_;
};

}  // namespace opserve::native
