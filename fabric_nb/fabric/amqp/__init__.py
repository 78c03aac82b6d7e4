"""AMQP for the fabric: connections that come back, channels that set themselves up again.

The only place that imports aio-pika and aiormq; everything above it deals in `Message`,
`Delivery` and `Channel`.
"""
