"""Maps over services of amqp-fabric, which name no instance in their replies."""

from __future__ import annotations

import pandas as pd


async def test_map_over_a_service_of_amqp_fabric(members, start_peer, rabbitmq_uri):
    """A service of amqp-fabric is called for each row; the instance is not known."""
    await start_peer("calc_service", rabbitmq_uri, keep_alive=0.2)
    fabric = await members.join("me")
    rows = pd.DataFrame({"x": [1, 2, 3], "y": [1, 0, 2]}, index=["a", "b", "c"])
    handle = fabric.map("calc.calc1.divide", rows)
    results = await handle
    assert results.result.dropna().to_dict() == {"a": 1.0, "c": 1.5}
    assert isinstance(results.error["b"], ZeroDivisionError)
    assert results.instance.tolist() == ["", "", ""]
    assert handle.progress.instances == {"": 3}
    echoed = [
        result["n"]
        async for _, result in fabric.map_stream(
            "calc.calc1.echo", ({"value": {"n": n}} for n in range(200)), in_flight=64
        )
    ]
    assert sorted(echoed) == list(range(200))
