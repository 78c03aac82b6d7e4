"""Encoding and decoding of messages, by the rules of the wire contract. Pure.

Received messages are not trusted: a message that does not have the shape of its kind raises
`MalformedMessage`, whatever it contains, and nothing in it is looked up, imported or evaluated.
"""
