"""Embedded AMQP 0-9-1 broker for development: a separate process on a loopback socket.

It stores nothing on disk and is one node: for production, use RabbitMQ. `fabric_nb.broker.launch`
finds the running broker or starts one; `python -m fabric_nb.broker` runs it in the foreground. The
package imports no other part of `fabric_nb`.
"""
