"""A real HTTP server of a few lines for the tests of the serving benchmark: `tiny_server.py FACTOR [REFUSE_EVERY]`.

It responds with FACTOR * x + y on BENCH_PORT, refuses every REFUSE_EVERY-th request with 503, and starts a child that
leaves its session.
"""

import itertools
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FACTOR = float(sys.argv[1])
REFUSE_EVERY = int(sys.argv[2]) if len(sys.argv) > 2 else 0
SEEN = itertools.count(1)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        values = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        refused = REFUSE_EVERY and next(SEEN) % REFUSE_EVERY == 0
        z = [FACTOR * x + y for x, y in zip(values["x"], values["y"], strict=True)]
        body = json.dumps({"z": z}).encode()
        self.send_response(503 if refused else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["BENCH_PORT"])), Handler).serve_forever()
