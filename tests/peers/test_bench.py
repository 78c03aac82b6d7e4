"""Benchmarks of services of amqp-fabric, which name no instance in their replies."""

from __future__ import annotations


async def test_benchmark_of_a_service_of_amqp_fabric(members, start_peer, rabbitmq_uri):
    """A service of amqp-fabric is measured; its calls are in one row, and its errors by type."""
    await start_peer("calc_service", rabbitmq_uri, keep_alive=0.2)
    fabric = await members.join("me")
    result = await fabric.bench("calc.calc1.multiply", x=2, y=3, calls=100, repeatable=True)
    assert (result.calls, result.errors, result.unsent) == (100, 0, 0)
    assert [(one.instance, one.calls) for one in result.by_instance] == [("", 100)]
    assert result.p50_ms > 0
    assert "instance" not in repr(result)
    paced = await fabric.bench(
        "calc.calc1.health_check", rate=200, seconds=0.3, warmup=0, in_flight=4
    )
    assert 0 < paced.calls <= 61
    assert paced.errors == 0
