# SPDX-License-Identifier: Apache-2.0
"""What scenario tests and crash runs stand on. README.md beside this file tells how to write a test."""
from . import disk, inject
from .client import Client, Closed, Reply, send
from .dns import Dns
from .instance import Failed, Instance, unavailable
from .sink import Sink, close, delay, drip, hang, raw, reply, reset

__all__ = ["Client", "Closed", "Dns", "Failed", "Instance", "Reply", "Sink", "close", "delay", "disk", "drip", "hang", "inject", "raw", "reply", "reset", "send", "unavailable"]
