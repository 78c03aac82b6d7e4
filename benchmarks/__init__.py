"""What a call, a message and a row cost, beside what they cost elsewhere.

    make bench
    python -m benchmarks --only calls --rounds 3 --seconds 0.5

Each library is a peer (`benchmarks.peers`) and runs in processes of its own (`worker`). All
processes are up before the first figure is taken, and the kinds take turns within a round, seconds
apart, so that a busy machine disturbs them alike: a ratio is of two figures of one round, and what
is shown is the median over the rounds. CPU time per call or message is the steadiest figure.
"""
