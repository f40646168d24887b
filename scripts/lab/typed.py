#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A command at a terminal of its own, with somebody who types.

Usage: typed.py [-t SECONDS] PROMPT LINE… -- COMMAND [ARGS…]
Each LINE is typed when the terminal shows PROMPT (a regular expression) again. What it showed goes to standard output; exit
status is the command's, 124 if it did not end in time.
"""

import os
import pty
import re
import select
import sys
import time


def main(argv):
    limit = 600.0
    if argv[0] == "-t":
        limit = float(argv[1])
        argv = argv[2:]
    split = argv.index("--")
    prompt, lines, command = re.compile(argv[0].encode()), argv[1:split], argv[split + 1 :]
    pid, terminal = pty.fork()
    if not pid:
        os.execvp(command[0], command)
    deadline = time.monotonic() + limit
    seen = b""
    while True:
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            os.kill(pid, 15)
            os.waitpid(pid, 0)
            return 124
        try:
            data = os.read(terminal, 4096)
        except OSError:  # how a terminal says that nobody has its other end open any more
            data = b""
        if not data:
            break
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        seen += data
        if lines and prompt.search(seen):
            seen = b""
            os.write(terminal, lines.pop(0).encode() + b"\n")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
