// What a worker logs: lines on stdout, which the server reads one by one. It takes one that begins with
// [METRICS] for a metric and one with [PID] for the worker's process number, and keeps a line of a gigabyte
// in memory; a text may quote a request. See handlers/torchserve/worker_log.py.
#pragma once

#include <string>
#include <string_view>

namespace opserve::native {

// The most characters of one record.
inline constexpr size_t kMaxRecord = 16'384;

// Returns a record as it is written, without the last line's end: bounded and printable; lines after the
// first are indented, and so is a first line that would begin like a message to the server.
std::string as_record(std::string_view text);

// Writes a record to stdout. What cannot be written is lost.
void write_log(std::string_view text);

// Writes lines that address the server; the caller has made them printable.
void write_to_server(std::string_view lines);

}  // namespace opserve::native
