#!/usr/bin/env python3
"""The service of examples/orders.rs in Python: one line in, one line out, over a Unix socket of its own.

    orders.py SOCKET [PASSPORTD_SOCKET]

Standard library and passportd.py only. docs/SERVICES.md says why each line is there.
"""

import os
import socketserver
import sys

from passportd import Accepted, Client, Passport, PassportdError, Problem

# A passport of 4 KiB takes 6 KiB as JSON; whoever sends more is not asking for an order.
MAX_LINE = 8 << 10
PATIENCE_S = 10


class Orders(socketserver.StreamRequestHandler):
    timeout = PATIENCE_S

    def handle(self):
        try:
            answer = self.order(self.rfile.readline(MAX_LINE))
        except TimeoutError:
            return
        self.wfile.write(answer.encode() + b"\n")

    def order(self, line):
        try:
            passport = Passport.from_json(line.strip())
        except (PassportdError, ValueError):
            return "refused: that is no passport"
        try:
            # Threads share one client; a call whose connection was lost is not repeated by itself, the next one connects.
            verdict = self.server.client.verify(passport, aud="orders", scopes=["orders:write"])
        except Problem as problem:
            # What can't be tried again is the operator's to mend: policy does not let us ask this.
            return ("try again: " if problem.retryable else "can't judge: ") + problem.code.value
        except PassportdError:
            return "try again: passportd can't be reached"
        # A passport that can't be judged now is not an accepted one, so only this one class means yes.
        return "ok" if isinstance(verdict, Accepted) else f"refused: {verdict.reason.value}"


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    own, passportd = (*sys.argv[1:], "/run/passportd/passportd.sock")[:2]
    if os.path.exists(own):
        sys.exit(f"orders.py: {own} exists")
    with Client(passportd, name="orders/1.0") as client, Server(own, Orders) as server:
        client.ping()
        server.client = client
        server.serve_forever()


main()
