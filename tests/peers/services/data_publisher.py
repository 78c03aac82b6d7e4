"""Publisher of data on amqp-fabric: `{"do": "publish", "headers": {...}, "data": ...}`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import peer_io


async def main() -> None:
    """Publish on request until the end is requested."""
    options = peer_io.arguments(__doc__, type="peer", id="publisher", keep_alive=1).parse_args()
    connector = peer_io.connector(options)
    await connector.open()

    async def publish(headers: dict[str, Any], data: Any = None, text: str | None = None) -> None:
        """Publish data as JSON, or text unchanged."""
        body = json.dumps(data) if text is None else text
        connector.publish_data(body.encode(), dict(headers))

    async def publish_rows(headers: dict[str, Any], count: int, start: int = 0) -> None:
        """Publish a number of small rows without pauses."""
        for number in range(start, start + count):
            body = json.dumps({"n": number, "value": number * 0.5, "name": f"row {number}"})
            connector.publish_data(body.encode(), dict(headers))
            if number % 100 == 0:
                await asyncio.sleep(0)

    await peer_io.serve(publish=publish, publish_rows=publish_rows)
    await connector.close()


if __name__ == "__main__":
    asyncio.run(main())
