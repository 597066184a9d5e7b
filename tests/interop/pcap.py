"""Capture files, as testpmd's net_pcap reads and writes them, and frames to put
into them.

SPDX-License-Identifier: BSD-3-Clause
"""
import random
import struct

MAGIC = 0xA1B2C3D4
BROADCAST = "ff:ff:ff:ff:ff:ff"


def mac_bytes(mac):
    return bytes(int(b, 16) for b in mac.split(":"))


def frame(dst, src, length, rng):
    """An Ethernet frame of random bytes. Its type is one for experiments (IEEE
    802, "Local Experimental EtherType 1"), so that nobody looks into it."""
    return mac_bytes(dst) + mac_bytes(src) + b"\x88\xb5" + rng.randbytes(length - 14)


def conversation(src, dst, count, longest, seed):
    """A broadcast, from which a switch learns the sender, and then frames of all
    lengths to one address."""
    rng = random.Random(seed)
    lengths = [60, 61, 64, 128, 512, longest - 1, longest]
    lengths += [rng.randint(60, longest) for _ in range(count - len(lengths))]
    return [frame(BROADCAST, src, 60, rng)] + [frame(dst, src, n, rng) for n in lengths]


def write(path, frames):
    """libpcap's format: a header, and one before each frame; Ethernet is 1."""
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", MAGIC, 2, 4, 0, 0, 262144, 1))
        for data in frames:
            f.write(struct.pack("<IIII", 0, 0, len(data), len(data)) + data)


def read(path):
    """The frames in it. A last one that is incomplete is an error."""
    data = path.read_bytes()
    if not data:
        return []
    magic, = struct.unpack_from("<I", data)
    if magic not in (MAGIC, 0xA1B23C4D):  # the second has nanoseconds
        raise ValueError(f"{path}: no capture file of this machine")
    frames, at = [], 24
    while at < len(data):
        _, _, kept, length = struct.unpack_from("<IIII", data, at)
        if kept != length or at + 16 + kept > len(data):
            raise ValueError(f"{path}: a frame is cut off")
        frames.append(data[at + 16:at + 16 + kept])
        at += 16 + kept
    return frames
