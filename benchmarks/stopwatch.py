"""Runs programs, and measures their time and memory: `python -m benchmarks.stopwatch`.

A process that reads a JSON object from each line of its standard input and replies with one.
It is small, because the peak memory of a process includes that of the process that started it.
"""

import json
import os
import subprocess
import sys
import time
from typing import Any


def measure(command: list[str], until: str, environment: dict[str, str]) -> dict[str, Any]:
    """Run a program to its end, or until it prints a line that starts with `until`."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if until and line.startswith(until):
            break
    seconds = time.perf_counter() - began
    if until:
        process.terminate()
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if not until:
        seconds = time.perf_counter() - began
    return {
        "code": process.returncode,
        "output": "".join(lines),
        "seconds": seconds,
        "cpu": usage.ru_utime + usage.ru_stime,
        "megabytes": usage.ru_maxrss / 1024,
    }


if __name__ == "__main__":
    for request in sys.stdin:
        print(json.dumps(measure(**json.loads(request))), flush=True)
