# SPDX-License-Identifier: Apache-2.0
"""Load: many SMTP sessions that send accounted messages (ledger.py) until told to stop, whatever happens to the server.

    load = Load(ledger, port=mail.port, sessions=10).start()
    ... load.pause(); load.resume(); load.stop()
A message whose answer never came (connection lost, time out) is not sent again: whether it arrives is open, and not counted.
Runs in a thread of its own.
"""
import asyncio
import random
import re
import threading
import time

from .client import stuff


class Refused(Exception):
    pass


class Traffic:
    """What makes messages until it is told to rest or to stop; `busy` counts those under way."""

    def __init__(self):
        self.busy, self.refusals = 0, {}
        self._paused, self._stopping = threading.Event(), threading.Event()

    def pause(self, seconds=90):
        """Nothing new; returns when what is under way has ended."""
        self._paused.set()
        end = time.monotonic() + seconds
        while self.busy and time.monotonic() < end:
            time.sleep(.005)
        if self.busy:
            raise TimeoutError(f"{self.busy} messages still wait for the server after {seconds} s")

    def resume(self):
        self._paused.clear()

    def note_refusal(self, message, text):
        """Returns the kind, which has no numbers and ids in it."""
        kind = re.sub(r"\d{5,}|[0-9A-F]{8,}", "N", text)[:80]
        self.refusals[kind] = self.refusals.get(kind, 0) + 1
        self.ledger.refused(message.id)
        return kind


class Load(Traffic):
    def __init__(self, ledger, *, port, host="127.0.0.1", sessions=10, seed=0, largest=3 << 20, think=0.004, answer_time=60, per_connection=20):
        super().__init__()
        self.ledger, self.host, self.port, self.sessions, self.seed, self.largest = ledger, host, port, sessions, seed, largest
        self.think, self.answer_time, self.per_connection = think, answer_time, per_connection
        self.lost_sessions = 0
        self.connect_failures = 0
        self._thread = threading.Thread(target=self._run, daemon=True, name="load")

    def start(self):
        self._thread.start()
        return self

    def stop(self):
        self._stopping.set()
        self._thread.join(self.answer_time + 10)

    def _run(self):
        asyncio.run(self._main())

    async def _main(self):
        await asyncio.gather(*(self._session(n) for n in range(self.sessions)))

    async def _session(self, number):
        rng = random.Random(f"{self.seed} {self.ledger.run} {number}")
        sequence = 0
        while not self._stopping.is_set():
            if self._paused.is_set():
                await asyncio.sleep(.01)
                continue
            try:
                reader, writer = await asyncio.wait_for(asyncio.open_connection(self.host, self.port, limit=1 << 17), 5)
            except (OSError, asyncio.TimeoutError):
                self.connect_failures += 1
                await asyncio.sleep(rng.uniform(.01, .06))
                continue
            try:
                await self._replies(reader, 1)
                writer.write(b"EHLO load%d.test\r\n" % number)
                await self._replies(reader, 1)
                for _ in range(rng.randrange(1, self.per_connection + 1)):
                    if self._stopping.is_set() or self._paused.is_set():
                        break
                    sequence += 1
                    self.busy += 1
                    try:
                        await self._transaction(reader, writer, self.ledger.make(number, sequence, rng, self.largest), rng)
                    finally:
                        self.busy -= 1
                    if self.think:
                        await asyncio.sleep(rng.uniform(0, 2 * self.think))
                writer.write(b"QUIT\r\n")
                await self._replies(reader, 1)
            except Refused:
                await asyncio.sleep(rng.uniform(.01, .06))
            except (OSError, EOFError, asyncio.TimeoutError, ValueError):
                self.lost_sessions += 1
                await asyncio.sleep(rng.uniform(0, .03))
            finally:
                writer.close()

    async def _transaction(self, reader, writer, message, rng):
        commands = [f"MAIL FROM:<{message.sender}> BODY=8BITMIME"] + [f"RCPT TO:<{r}>" for r in message.recipients] + ["DATA"]
        if rng.random() < .7:  # pipelined
            writer.write("".join(c + "\r\n" for c in commands).encode())
            replies = await self._replies(reader, len(commands))
        else:
            replies = []
            for command in commands:
                writer.write(command.encode() + b"\r\n")
                replies += await self._replies(reader, 1)
        if replies[-1][0] != 354:
            self._refused(message, next((r for r in replies if r[0] >= 400), replies[-1]))
        bad = [r for r, reply in zip(message.recipients, replies[1:-1]) if reply[0] != 250]
        writer.write(stuff(message.content) + b".\r\n")
        await asyncio.wait_for(writer.drain(), self.answer_time)
        reply = (await self._replies(reader, 1))[0]
        if reply[0] == 250:
            self.ledger.acknowledged(message.id, bad)
        else:
            self._refused(message, reply)

    def _refused(self, message, reply):
        raise Refused(self.note_refusal(message, f"{reply[0]} {reply[1]}"))

    async def _replies(self, reader, count):
        replies = []
        while len(replies) < count:
            line = await asyncio.wait_for(reader.readline(), self.answer_time)
            if not line.endswith(b"\n"):
                raise EOFError
            if line[3:4] != b"-":
                replies.append((int(line[:3]), line[4:].decode("utf-8", "replace").strip()))
        return replies
