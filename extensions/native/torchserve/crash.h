// Says why a worker died: what cannot be caught still leaves its reason in the server's log.
#pragma once

namespace opserve::native {

// From now on a fatal signal, and an exception that nobody catches, write their reason and a backtrace to
// stderr, in the form in which scripts/torchserve/worker_log.py finds it, before the process ends by that
// signal as it would have.
void report_crashes();

}  // namespace opserve::native
