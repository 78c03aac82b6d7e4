"""Calculator service on fabric_nb, with the methods and the name of `calc_service`."""

from __future__ import annotations

import asyncio

import peer_io
from calc_service import CalcApi

from fabric_nb import AmqBrokerConnector


async def main() -> None:
    """Serve until the end is requested."""
    parser = peer_io.arguments(__doc__, type="calc", id="calc1", keep_alive=1)
    parser.add_argument("--grace", type=float, default=0.0, help="seconds for calls at the end")
    parser.add_argument("--single-active", type=int, default=0, help="1: lead, or stand by")
    parser.add_argument("--redelivered", default="run", help="run, or refuse")
    parser.add_argument("--ack", default="reply", help="reply, or begin")
    options = parser.parse_args()
    async with AmqBrokerConnector(
        options.uri,
        options.domain,
        options.type,
        options.id,
        keep_alive_seconds=options.keep_alive or False,
    ) as connector:
        if options.single_active:
            await connector.serve(CalcApi(), single_active=True)
        elif options.redelivered != "run":
            await connector.serve(CalcApi(), redelivered=options.redelivered)
        elif options.ack != "reply":
            await connector.serve(CalcApi(), ack=options.ack)
        else:
            await connector.rpc_register(CalcApi())
        await peer_io.serve()
        await connector.close(options.grace)


if __name__ == "__main__":
    asyncio.run(main())
