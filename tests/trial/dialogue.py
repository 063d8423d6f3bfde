# SPDX-License-Identifier: Apache-2.0
"""A client of SMTP, POP3 and IMAP that prints what both sides say: C: the client, S: the server."""
import socket

from .screen import say


class Dialogue:
    def __init__(self, port, context, tls=False):
        self.context = context
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.tag = 0
        if tls:
            self.start_tls()
        else:
            self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def start_tls(self):
        self.socket = self.context.wrap_socket(self.socket, server_hostname="localhost")
        self.file = self.socket.makefile("rb")
        say(f"    -- {self.socket.version()}, {self.socket.cipher()[0]}, certificate verified --")

    def put(self, text, shown=None):
        for line in (shown or text).split("\n"):
            say(f"    C: {line}")
        self.socket.sendall(text.replace("\n", "\r\n").encode() + b"\r\n")

    def get(self):
        line = self.file.readline()
        if not line:
            raise OSError("the server closed the connection")
        return line.decode("utf-8", "replace").rstrip("\r\n")

    def check(self, good, line):
        if not good:
            raise OSError(f"the server answered: {line}")

    # One reply each, printed; an OSError if it says no.

    def smtp(self, text=None, shown=None, code="2"):
        if text is not None:
            self.put(text, shown)
        parts = [self.get()]
        while parts[-1][3:4] == "-":
            parts.append(self.get())
        say("    S: " + " | ".join([parts[0][:3] + " " + parts[0][4:]] + [p[4:] for p in parts[1:]]))
        self.check(parts[0].startswith(code), parts[0])

    def pop3(self, text=None, shown=None, more=False):
        if text is not None:
            self.put(text, shown)
        line = self.get()
        say(f"    S: {line}")
        self.check(line.startswith("+OK"), line)
        while more and line != ".":
            line = self.get()
            say(f"    S: {line}")

    def imap(self, text=None, shown=None):
        """With a tag of its own; returns the lines of the answer."""
        if text is None:
            say(f"    S: {self.get()}")
            return []
        self.tag += 1
        self.put(f"a{self.tag} {text}", shown and f"a{self.tag} {shown}")
        lines = []
        while not lines or not lines[-1].startswith(f"a{self.tag} "):
            lines.append(self.get())
            say(f"    S: {lines[-1]}")
        self.check(lines[-1].split()[1] == "OK", lines[-1])
        return lines
