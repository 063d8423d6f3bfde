# SPDX-License-Identifier: Apache-2.0
"""What scenario tests and crash runs stand on. README.md beside this file tells how to write a test."""
from .client import Client, Closed, Reply, send
from .instance import Failed, Instance, unavailable
from .sink import Sink, close, delay, drip, hang, raw, reply, reset

__all__ = ["Client", "Closed", "Failed", "Instance", "Reply", "Sink", "close", "delay", "drip", "hang", "raw", "reply", "reset", "send", "unavailable"]
