"""Where the bytes of a session come from: a serial port, or an emulator's socket or terminal."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from toolkit.errors import UserError


class Stream(Protocol):
    """Bytes both ways. `receive` gives whatever has arrived, b"" after `timeout` seconds of silence.

    Both raise ConnectionError when the other end is gone.
    """

    def send(self, data: bytes) -> None: ...

    def receive(self, timeout: float) -> bytes: ...

    def close(self) -> None: ...


class SerialStream:
    """Anything that behaves like pyserial's Serial."""

    def __init__(self, port: Any) -> None:
        self._port = port

    def send(self, data: bytes) -> None:
        self._guarded(self._port.write, data)

    def receive(self, timeout: float) -> bytes:
        self._port.timeout = timeout
        first = bytes(self._guarded(self._port.read, 1))
        waiting = int(self._port.in_waiting) if first else 0
        return first + (bytes(self._guarded(self._port.read, waiting)) if waiting else b"")

    def close(self) -> None:
        self._port.close()

    def _guarded(self, operation: Any, argument: Any) -> Any:
        try:
            return operation(argument)
        except OSError as error:  # pyserial's errors are OSErrors
            raise ConnectionError(str(error)) from None


class ReopenedStream:
    """A stream that is opened again when it breaks, by `opener`, for up to `patience` seconds.

    What is sent as it breaks is sent again, whole; what was on its way from the other end is lost, as on any line, and
    the session asks for it again.
    """

    def __init__(self, opener: Callable[[], Stream], patience: float = 10.0) -> None:
        self._opener, self._patience = opener, patience
        self._stream = opener()
        self.reopened = 0

    def send(self, data: bytes) -> None:
        end = time.monotonic() + self._patience
        while True:
            try:
                self._stream.send(data)
                return
            except ConnectionError as error:
                if time.monotonic() > end:
                    raise
                self._reopen(error)

    def receive(self, timeout: float) -> bytes:
        try:
            return self._stream.receive(timeout)
        except ConnectionError as error:
            self._reopen(error)
            return b""

    def close(self) -> None:
        self._stream.close()

    def _reopen(self, error: ConnectionError) -> None:
        with suppress(OSError):
            self._stream.close()
        end = time.monotonic() + self._patience
        while True:
            try:
                self._stream = self._opener()
                self.reopened += 1
                return
            except (UserError, ConnectionError):
                if time.monotonic() > end:
                    raise error from None
                time.sleep(0.05)


class TerminalStream:
    """The master side of a pseudo terminal in raw mode."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            raise ConnectionError(str(error)) from None

    def receive(self, timeout: float) -> bytes:
        if not select.select([self._descriptor], [], [], timeout)[0]:
            return b""
        try:
            return os.read(self._descriptor, 65536)
        except OSError as error:
            raise ConnectionError(str(error)) from None

    def close(self) -> None:
        os.close(self._descriptor)


def port_over(connected: socket.socket) -> Any:
    """pyserial's port over a TCP connection that was accepted here, where its own socket:// can only connect."""
    from serial.urlhandler.protocol_socket import Serial

    class Accepted(Serial):  # type: ignore[misc]
        def open(self) -> None:
            connected.setblocking(False)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.logger = None
            self._socket = connected
            self.is_open = True

        @property
        def in_waiting(self) -> int:
            try:
                return len(connected.recv(65536, socket.MSG_PEEK))
            except BlockingIOError:
                return 0

        def close(self) -> None:
            connected.close()
            self.is_open = False

    return Accepted("socket://accepted")


def open_stream(url: str, baud: int = 115200) -> Stream:
    """A serial port or any URL of pyserial, such as /dev/ttyUSB0 or socket://localhost:1234.

    Raises:
        UserError: it cannot be opened.
    """
    import serial

    try:
        # Exclusive: two programs on one board would take each other's answers.
        return SerialStream(serial.serial_for_url(url, baudrate=baud, exclusive=True))
    except (OSError, ValueError) as error:
        hint = "list the ports with: python -m serial.tools.list_ports"
        raise UserError(f"cannot be opened: {error}", where=url, hint=hint) from None
