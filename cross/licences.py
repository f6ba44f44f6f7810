#!/usr/bin/env python3
"""Prints the licence texts of every crate in the program, each text once: licences.py TRIPLE.

Normal dependencies only: what builds or tests the program is not in it. A crate without a text of its own gets the
standard text of a licence it names, and an unknown case is an error, not a gap.
"""

import json
import pathlib
import re
import subprocess
import sys

NAMES = re.compile(r"^(licen[cs]e|copying|notice|copyright|unlicense)", re.IGNORECASE)
MAX_BYTES = 256 * 1024
ROOT = pathlib.Path(__file__).resolve().parent.parent


def crates(triple):
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", triple]
    found = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    packages = {p["id"]: p for p in found["packages"]}
    nodes = {n["id"]: n for n in found["resolve"]["nodes"]}
    root = next(i for i, p in packages.items() if p["name"] == "sentrycam")
    seen, todo = set(), [root]
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        for dep in nodes[node]["deps"]:
            if any(kind["kind"] is None for kind in dep["dep_kinds"]):
                todo.append(dep["pkg"])
    seen.remove(root)
    return sorted((packages[i] for i in seen), key=lambda p: (p["name"], p["version"]))


def texts(package):
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(p for p in folder.iterdir() if p.is_file() and NAMES.match(p.name))
    files += sorted(p for d in folder.iterdir() if d.is_dir() and NAMES.match(d.name) for p in d.iterdir() if p.is_file())
    named = package.get("license_file")
    if named and (folder / named).resolve() not in [f.resolve() for f in files]:
        files.append(folder / named)
    found = [f.read_bytes()[:MAX_BYTES].decode("utf-8", "replace").replace("\r\n", "\n").strip() for f in files]
    return [text for text in found if text] or [standard(package)]


def standard(package):
    names = package["license"] or ""
    if "MIT" in re.split(r"[^A-Za-z0-9.-]+", names):
        mit = (ROOT / "LICENSE-MIT").read_text()
        permission = mit[mit.index("Permission is hereby granted") :]
        owners = ", ".join(package["authors"]) or f"the authors of {package['name']}"
        return f"MIT License\n\nCopyright (c) {owners}\n\n{permission}".strip()
    if "Apache-2.0" in names:
        return (ROOT / "LICENSE-APACHE").read_text().strip()
    sys.exit(f"licences: {package['name']} {package['version']} ({names or 'no licence'}) brings no licence text")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    packages = crates(sys.argv[1])
    by_text = {}
    print("sentrycam is linked with these crates, and with the standard library of Rust (MIT or Apache-2.0) and\n"
          "SQLite (public domain). Their licence texts follow, each with the crates that bring it.\n")
    for p in packages:
        print(f"{p['name']} {p['version']}: {p['license'] or 'see its text'}; {p['repository'] or 'crates.io'}")
        for text in texts(p):
            by_text.setdefault(text, []).append(f"{p['name']} {p['version']}")
    for text, users in by_text.items():
        print("\n" + "=" * 100 + "\n" + ", ".join(users) + "\n" + "-" * 100 + "\n" + text)


main()
