"""Cost of calls, messages, rows and starts, compared with other libraries.

    make bench
    python -m benchmarks --only calls --rounds 3 --seconds 0.5

Each library is a peer (`benchmarks.peers`) and runs in separate processes (`worker`). All
processes are started before the first measurement, and the kinds alternate within a round,
seconds apart, so that load on the machine affects them alike: a ratio is of two measurements of
one round, and the median over the rounds is shown. CPU time per call or message varies least.
"""
