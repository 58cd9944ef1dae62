#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""random_images.py FOLDER CLASSES IMAGES SIDE CHANNELS: class folders of PNGs of noise, the same ones every time."""
import pathlib
import random
import struct
import sys
import zlib


def png(side, channels, noise):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + noise.randbytes(side * channels) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def main():
    folder, (classes, images, side, channels) = pathlib.Path(sys.argv[1]), map(int, sys.argv[2:6])
    noise = random.Random(1)
    for label in range(classes):
        home = folder / f"class{label:03}"
        home.mkdir(parents=True, exist_ok=True)
        for index in range(images):
            (home / f"{index:03}.png").write_bytes(png(side, channels, noise))


if __name__ == "__main__":
    main()
