# SPDX-License-Identifier: Apache-2.0
"""Programs in dom0, run over the agent's channel: the other side of agent.c, frames as in frames.h."""

import os
import socket
import struct
import threading
import time

HEADER = struct.Struct("<III")
RUN, STDIN, STDIN_END, SIGNAL = 1, 2, 3, 4
STDOUT, STDERR, EXIT, HELLO = 16, 17, 18, 19
CHUNK = 32768


class Program:
    """A program that was started in dom0. `status` is as os.wait() gives it; None while it runs."""

    def __init__(self, remote, number, on_stdout, on_stderr):
        self.remote, self.number = remote, number
        self.on_stdout, self.on_stderr = on_stdout, on_stderr
        self.status = None
        self.ended = threading.Event()

    def write(self, data):
        for i in range(0, len(data), CHUNK):
            self.remote.send(self.number, STDIN, data[i : i + CHUNK])

    def end_input(self):
        self.remote.send(self.number, STDIN_END)

    def signal(self, number):
        self.remote.send(self.number, SIGNAL, struct.pack("<I", number))

    @property
    def signalled(self):
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0

    @property
    def code(self):
        return 128 + self.signalled if self.signalled else os.WEXITSTATUS(self.status)


class Remote:
    """The agent in dom0, behind QEMU's virtio-serial socket."""

    def __init__(self, path):
        self.socket = self._connect(path)
        self.lock = threading.Lock()
        self.programs = {}
        self.next = 0
        self.hello = threading.Event()
        self.closed = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    @staticmethod
    def _connect(path):
        """The socket's name is there a moment before anybody listens at it."""
        deadline = time.monotonic() + 30
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(path)
                return connection
            except ConnectionRefusedError:
                connection.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def send(self, number, kind, data=b""):
        try:
            with self.lock:
                self.socket.sendall(HEADER.pack(number, kind, len(data)) + data)
        except OSError:
            self.closed.set()

    def start(self, argv, env=(), cwd="/", tty=0, on_stdout=None, on_stderr=None):
        self.next += 1
        program = Program(self, self.next, on_stdout, on_stderr)
        self.programs[self.next] = program
        strings = [*argv, *env, cwd]
        payload = struct.pack("<III", tty, len(argv), len(env))
        payload += b"".join(os.fsencode(s) + b"\0" for s in strings)
        self.send(self.next, RUN, payload)
        return program

    def _take(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(min(count - len(data), 1 << 20))
            if not part:
                raise EOFError
            data += part
        return data

    def _read(self):
        try:
            while True:
                number, kind, length = HEADER.unpack(self._take(HEADER.size))
                data = self._take(length)
                if kind == HELLO:
                    self.hello.set()
                    continue
                program = self.programs.get(number)
                if not program:
                    continue
                if kind == STDOUT and program.on_stdout:
                    program.on_stdout(data)
                elif kind == STDERR and program.on_stderr:
                    program.on_stderr(data)
                elif kind == EXIT:
                    program.status = struct.unpack("<I", data)[0]
                    del self.programs[number]
                    program.ended.set()
        except (OSError, EOFError):
            pass
        self.closed.set()
        for program in list(self.programs.values()):
            program.ended.set()
