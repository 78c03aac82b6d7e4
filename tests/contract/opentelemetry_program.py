"""A program with an SDK of OpenTelemetry: prints the spans that it has recorded, as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fabric_nb import AmqBrokerConnector
from fabric_nb.errors import RemoteError


async def main(uri: str) -> dict[str, object]:
    def member(name: str) -> AmqBrokerConnector:
        return AmqBrokerConnector(
            uri, "d", "app", name, keep_alive_seconds=60, keep_alive_listen=True
        )

    own = trace.get_tracer("program")
    async with member("caller") as caller, member("front") as front, member("back") as back:

        async def work(n: int) -> int:
            with own.start_as_current_span("thinking"):
                result = await front.call("d.app.back.double", n=n)
            await front.publish_data({"n": n}, {"msg_type": "DONE"})
            return int(result)

        def double(n: int) -> int:
            if n < 0:
                raise ValueError(n)
            return 2 * n

        await front.serve({"work": work})
        await back.serve({"double": double}, threads=True)
        with own.start_as_current_span("cell"):
            result = await caller.call("d.app.front.work", n=4)
        with contextlib.suppress(RemoteError):
            await caller.call("d.app.back.double", n=-1)
        traced = await caller.trace("d.app.front.work", n=5)
    return {
        "result": result,
        "traced": [[node.depth, node.span.method] for node in traced.nodes],
        "trace": traced.trace.id if traced.trace is not None else "",
    }


if __name__ == "__main__":
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    found = asyncio.run(main(sys.argv[1]))
    spans = [
        {
            "name": span.name,
            "kind": span.kind.name,
            "trace": f"{span.context.trace_id:032x}",
            "id": f"{span.context.span_id:016x}",
            "parent": f"{span.parent.span_id:016x}" if span.parent else "",
            "attributes": dict(span.attributes or {}),
            "status": span.status.status_code.name,
            "events": [event.name for event in span.events],
        }
        for span in exporter.get_finished_spans()
    ]
    print(json.dumps(found | {"spans": spans}))
