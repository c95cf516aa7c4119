"""A disk with a volatile cache, that loses power.

An NBD server on a unix socket, for qemu. As a real disk does it, it answers a write once it has it in its
cache, and only a flush makes it last. When power is lost, a random part of what was not flushed is on the
disk and the rest is gone, in no order: sectors of one write, or a later write without an earlier one.
"""

import os
import socket
import struct
import threading

SECTOR = 512
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
REQUEST, SIMPLE_REPLY, OPTION_REPLY = 0x25609513, 0x67446698, 0x3E889045565A9
FIXED_NEWSTYLE_NO_ZEROES, HAS_FLAGS_SEND_FLUSH = 3, 1 | 4
OPTION_GO, REPLY_ACK, REPLY_INFO, REPLY_UNSUPPORTED = 7, 1, 3, (1 << 31) + 1
MAX_REQUEST = 64 << 20
EINVAL = 22


class Disk:
    """One disk, in a file, that one machine after the other uses."""

    def __init__(self, file, endpoint):
        self.endpoint = endpoint
        self.flushes = 0
        self._file = os.open(file, os.O_RDWR)
        self._size = os.fstat(self._file).st_size
        self._cached = {}
        self._unflushed = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(endpoint)
        self._listener.listen(1)
        self._idle = threading.Condition()
        self._users = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def lose_power(self, rng):
        """Call it when the machine is dead. Says how many sectors were not flushed, and how many of them were lost."""
        with self._idle:
            if not self._idle.wait_for(lambda: self._users == 0, timeout=30):
                raise TimeoutError("the machine still uses the disk")
        survival = rng.choice([0.0, 0.0, rng.random()])
        torn = rng.random() < 0.5
        unflushed = lost = 0
        for offset, data in self._unflushed:
            survives = rng.random() < survival
            for at in range(0, len(data), SECTOR):
                unflushed += 1
                if (rng.random() < survival) if torn else survives:
                    os.pwrite(self._file, data[at:at + SECTOR], offset + at)
                else:
                    lost += 1
        self._forget()
        return unflushed, lost

    def close(self):
        self._listener.close()
        os.close(self._file)

    def _forget(self):
        self._cached, self._unflushed = {}, []

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._count(1)
            try:
                with connection:
                    self._negotiate(connection)
                    while self._answer(connection):
                        pass
            except (ConnectionError, EOFError):
                pass
            finally:
                self._count(-1)

    def _count(self, change):
        with self._idle:
            self._users += change
            self._idle.notify_all()

    def _negotiate(self, connection):
        connection.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", FIXED_NEWSTYLE_NO_ZEROES))
        receive(connection, 4)
        while True:
            _, option, length = struct.unpack(">QII", receive(connection, 16))
            receive(connection, length)
            if option != OPTION_GO:
                self._reply_to_option(connection, option, REPLY_UNSUPPORTED)
                continue
            export = struct.pack(">HQH", 0, self._size, HAS_FLAGS_SEND_FLUSH)
            self._reply_to_option(connection, option, REPLY_INFO, export)
            self._reply_to_option(connection, option, REPLY_ACK)
            return

    @staticmethod
    def _reply_to_option(connection, option, reply, data=b""):
        connection.sendall(struct.pack(">QIII", OPTION_REPLY, option, reply, len(data)) + data)

    def _answer(self, connection):
        """Answers one request; false when it was the last."""
        magic, _, kind, handle, offset, length = struct.unpack(">IHHQQI", receive(connection, 28))
        if magic != REQUEST or length > MAX_REQUEST:
            raise ConnectionError("not a request")
        data, error = b"", 0
        if kind == READ:
            data = self._read(offset, length)
        elif kind == WRITE:
            self._write(offset, receive(connection, length))
        elif kind == FLUSH:
            self._flush()
        elif kind == DISCONNECT:
            return False
        else:
            error = EINVAL
        connection.sendall(struct.pack(">IIQ", SIMPLE_REPLY, error, handle) + data)
        return True

    def _read(self, offset, length):
        data = os.pread(self._file, length, offset)
        if not self._cached:
            return data
        data = bytearray(data)
        for at in range(0, length, SECTOR):
            if (newer := self._cached.get(offset + at)) is not None:
                data[at:at + SECTOR] = newer
        return bytes(data)

    def _write(self, offset, data):
        self._unflushed.append((offset, data))
        for at in range(0, len(data), SECTOR):
            self._cached[offset + at] = data[at:at + SECTOR]

    def _flush(self):
        for offset, data in self._unflushed:
            os.pwrite(self._file, data, offset)
        self._forget()
        self.flushes += 1


def receive(connection, length):
    data = bytearray()
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
