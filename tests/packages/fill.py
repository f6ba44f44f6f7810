#!/usr/bin/env python3
"""Fills the agent's database as a long outage does: fill.py DATABASE COUNT copies its own records under new ids."""

import os
import sqlite3
import sys
import uuid


def main():
    path, count = sys.argv[1], int(sys.argv[2])
    owner = os.stat(path)
    db = sqlite3.connect(path)
    rows = db.execute(
        "select id, class, bytes, body, boot, boottime_ns from outbox where coalesce_key is null order by seq"
    ).fetchall()
    if not rows:
        sys.exit("fill: there is no record to copy")
    with db:
        for i in range(count):
            old, kind, size, body, boot, at = rows[i % len(rows)]
            new = uuid.uuid4()
            body = body.replace(str(uuid.UUID(bytes=old)), str(new))
            db.execute(
                "insert into outbox (id, class, bytes, body, boot, boottime_ns) values (?, ?, ?, ?, ?, ?)",
                (new.bytes, kind, size, body, boot, at),
            )
    db.close()
    # What root made is the agent's.
    for name in (path, path + "-wal", path + "-shm"):
        if os.path.exists(name):
            os.chown(name, owner.st_uid, owner.st_gid)


main()
