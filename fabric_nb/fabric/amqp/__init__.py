"""AMQP for the fabric: connections that reconnect, channels that repeat their setup.

The only package that imports aio-pika and aiormq; packages above it use `Message`, `Delivery` and
`Channel`.
"""
